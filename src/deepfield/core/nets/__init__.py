"""Encoders, chosen by the shape of their input."""
