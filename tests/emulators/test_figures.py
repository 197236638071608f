"""Figures show the numbers that they were given."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from deepfield.emulators import figures


def test_bands_are_quantiles_in_per_cent():
    error = np.random.default_rng(0).normal(size=(50, 3, 20)) / 100
    lines = figures.bands(np.geomspace(1e-3, 1, 20), np.array([1.0, 0.0, 2.0]), error).axes[0].get_lines()
    expected = 100 * np.median(np.abs(error).reshape(150, 20), 0)
    assert np.allclose(lines[0].get_ydata(), expected)
    assert np.allclose(lines[2].get_ydata(), 100 * np.abs(error).max((0, 1)))


def test_the_corner_marks_the_worst_in_every_pair():
    theta = np.random.default_rng(0).uniform(size=(30, 4))
    size = np.linspace(0.01, 0.02, 30)
    axes = [a for a in figures.corner(theta, list("abcd"), size, np.array([29, 28])).axes if a.get_lines()]
    assert len(axes) == 6
    assert np.allclose(axes[0].get_lines()[0].get_xdata(), theta[[29, 28], 0])


def test_learning_and_speed():
    rows = [{"simulations": n, "median": 1 / n, "p95": 2 / n} for n in (10, 100)]
    assert figures.learning(rows).axes[0].get_lines()[0].get_ydata().tolist() == [10, 1]
    points = [
        {"name": "deepfield", "microseconds": 1.0, "median": 1e-4},
        {"name": "b", "microseconds": 9, "median": 1e-3},
    ]
    words = [text.get_text() for text in figures.speed(points).axes[0].texts]
    assert words == ["deepfield", "b"]
