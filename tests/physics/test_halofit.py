"""Halofit against CAMB's own, on CAMB's linear spectrum."""

from pathlib import Path

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.physics.halofit import halofit

CAMB = Path(__file__).parents[1] / "emulators" / "camb.npz"


def test_halofit_agrees_with_camb():
    with np.load(CAMB) as file:
        theta, k, linear, truth = (file[name] for name in ("theta", "k", "linear", "halofit"))
    fine = np.geomspace(1e-4, 10, 600)
    for row, spectra, known in zip(theta, linear, truth):
        for j, z in enumerate((0.0, 1.0)):
            smooth = np.exp(np.interp(np.log(fine), np.log(k), np.log(spectra[j])))
            matter = row[0] * (1 + z) ** 3 / (row[0] * (1 + z) ** 3 + 1 - row[0])
            found = np.exp(np.interp(np.log(k), np.log(fine), np.log(halofit(fine, smooth[None], matter)[0])))
            error = found / known[j] - 1
            assert np.abs(error[k < 0.01]).max() < 0.02
            assert np.quantile(np.abs(error), 0.9) < 0.03


def test_what_is_linear_stays_and_disorder_is_refused():
    k = np.geomspace(1e-3, 1, 100)
    weak = 1e-3 * np.ones((1, 100))
    assert np.array_equal(halofit(k, weak, 0.3), weak)
    with pytest.raises(DeepfieldError, match="k of halofit increases"):
        halofit(k[::-1], weak, 0.3)
