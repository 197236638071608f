"""Figures draw what they were given, refuse what they cannot draw, and touch no global state."""

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from deepfield.core import figures
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction

RNG = np.random.default_rng(0)
N = 400
Z = RNG.uniform(0.05, 1.2, N)
EST = Z + 0.02 * (1 + Z) * RNG.standard_normal(N)
P = Prediction.mixture(np.ones((N, 1)), EST[:, None], 0.02 * (1 + Z)[:, None])
LEVELS = np.linspace(0.05, 0.95, 19)
HISTORY = {"train": np.geomspace(5, 1, 20), "validation": np.geomspace(5, 1.5, 20), "best_epoch": 18}
GRID = np.linspace(0, 1, 50)
ALL = {
    "scatter": lambda: figures.density_scatter(Z, EST),
    "pit": lambda: figures.pit_histogram(P.cdf(Z)),
    "coverage": lambda: figures.coverage_curve(LEVELS, {"a": LEVELS + 0.01, "b": LEVELS**2}, n=N),
    "conformal": lambda: figures.coverage_curve(LEVELS, LEVELS, n=N, n_cal=100),
    "examples": lambda: figures.example_densities(P, Z, n=4),
    "error": lambda: figures.error_against(Z, (EST - Z) / (1 + Z), xlabel="redshift"),
    "training": lambda: figures.training_curves(HISTORY),
    "stages": lambda: figures.training_curves({"members": HISTORY, "student": HISTORY}),
    "n_of_z": lambda: figures.n_of_z(
        GRID, [GRID, 1 - GRID], low=[GRID, GRID], high=[GRID, GRID], truth=[GRID, GRID]
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_every_figure_renders_with_labels_and_leaves_no_trace(name):
    before = dict(mpl.rcParams)
    figure = ALL[name]()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    assert buffer.getvalue().count(b"<path") > 10
    assert dict(mpl.rcParams) == before
    labels = [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    assert any(labels) or figure.get_supxlabel()


def test_pyplot_is_never_loaded():
    code = "import sys, numpy as np; from deepfield.core import figures; figures.pit_histogram(np.arange(9) / 9); "
    code += "assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_that_are_not_finite_are_left_out():
    z, e = Z.copy(), EST.copy()
    z[:10], e[10:20] = np.nan, np.inf
    text = figures.density_scatter(z, e).axes[0].texts[0].get_text()
    assert text.startswith("380 objects")
    figures.error_against(z, e, xlabel="z")
    figures.pit_histogram(np.append(P.cdf(Z), np.nan))


def test_the_numbers_in_the_scatter_are_the_fields():
    dz = (EST - Z) / (1 + Z)
    text = figures.density_scatter(Z, EST).axes[0].texts[0].get_text()
    assert f"bias {dz.mean():+.4f}" in text
    assert f"{1.4826 * np.median(np.abs(dz - np.median(dz))):.4f}" in text


def test_the_coverage_curve_is_where_it_was_put():
    figure = figures.coverage_curve(LEVELS, {"a": LEVELS**2}, n=N)
    curve = next(line for line in figure.axes[0].get_lines() if line.get_label() == "a")
    np.testing.assert_array_equal(curve.get_data()[1], LEVELS**2)
    np.testing.assert_allclose(figure.axes[1].get_lines()[1].get_data()[1], LEVELS**2 - LEVELS)


def test_the_median_of_the_error_is_drawn_in_bins():
    figure = figures.error_against(Z, 0.1 * np.ones(N), xlabel="z", bins=4)
    middle, median = figure.axes[0].get_lines()[1].get_data()
    assert len(middle) == 4 and np.allclose(median, 0.1)


def test_few_objects_are_drawn_too():
    figures.density_scatter(Z[:1], EST[:1])
    figures.pit_histogram([0.5])
    figures.error_against(Z[:3], EST[:3], xlabel="z")
    figures.error_against(np.ones(100), EST[:100], xlabel="z")
    assert len(figures.example_densities(P[:2], Z[:2]).axes) == 2
    figures.example_densities(P, Z, rows=[5])
    figures.training_curves({"train": [1.0], "validation": [1.0], "best_epoch": 0})


def test_nothing_to_draw_is_said():
    with pytest.raises(DeepfieldError, match="nothing to draw"):
        figures.density_scatter([np.nan], [1.0])
    with pytest.raises(DeepfieldError, match="no finite PIT"):
        figures.pit_histogram([np.nan])
    with pytest.raises(DeepfieldError, match="one length, not 400 and 3"):
        figures.error_against(Z, EST[:3], xlabel="z")
    with pytest.raises(DeepfieldError, match="no object has both"):
        figures.example_densities(P[:2], [np.nan, np.nan])
