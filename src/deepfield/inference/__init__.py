"""Simulation-based inference."""
