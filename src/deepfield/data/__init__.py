"""The registry of data sets and the readers of file formats."""
