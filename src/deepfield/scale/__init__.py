"""Catalogues of billions: streaming and export of any model."""
