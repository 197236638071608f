"""Figures draw what they are given."""

import numpy as np
import torch

from deepfield.lensing import Lens, plots, score, sie
from deepfield.lensing.score import completeness


def test_curves_of_a_score():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    p = np.clip(0.5 * y + rng.uniform(0, 0.5, 400), 0, 1)
    found = score(p, y, repeats=2)
    figure = plots.roc({"one": found.curves["roc"], "two": found.curves["roc"]})
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["one", "two", "chance"] and axes.get_xscale() == "log"
    told = completeness(p > 0.5, rng.uniform(0.5, 2, 400), 4)
    figure = plots.completeness({"theta_e": told, "snr": told})
    assert len(figure.axes) == 2 and "Einstein radius" in figure.axes[0].get_xlabel()


def test_measured_against_true_leaves_out_what_is_missing():
    t = np.array([1.0, 2.0, np.nan])
    axes = plots.against(t, t, t - 0.1, t + 0.1, name="x").axes[0]
    assert len(axes.lines[0].get_xdata()) == 2


def test_a_lens_with_its_curves():
    model = Lens(sie(torch.tensor(1.0), torch.tensor(0.7), torch.tensor(0.3)))
    axes = plots.lens(np.random.default_rng(0).normal(size=(3, 32, 32)), model, 0.2).axes[0]
    assert len(axes.lines) >= 2 and axes.get_xlim() == (-3.2, 3.2)
    reach = np.abs(axes.lines[0].get_xdata()).max()
    assert 0.7 < reach < 1.4, "the critical curve lies near the Einstein radius"
