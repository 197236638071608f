"""Calibration, coverage and uncertainty of any model or prediction."""
