"""HMcode2020 against CAMB's own, on a linear spectrum that is CAMB's within 0.1 %."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.physics.hmcode import hmcode
from deepfield.physics.power import transfer


def linear(k):
    return 2.3e6 * k**0.965 * transfer(0.68 * k, 0.143, 0.0227)[None] ** 2


def test_large_scales_stay_linear_and_small_ones_grow():
    k = np.array([1e-3, 0.01, 0.1, 1.0, 10.0])
    boost = hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0)[0] / linear(k)[0]
    assert boost[0] == pytest.approx(1, abs=1e-4)
    assert boost[1] == pytest.approx(1, abs=0.01)
    assert boost[4] > 5 * boost[3] / 2 > 3


def test_oscillations_are_damped():
    k = np.geomspace(0.05, 0.25, 200)

    def wiggles(power):
        rest = np.log(power) - np.polyval(np.polyfit(np.log(k), np.log(power), 5), np.log(k))
        return rest[k > 0.15].std()

    found = hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0)[0]
    assert wiggles(found) < 0.6 * wiggles(linear(k)[0])


def test_rows_do_not_know_of_each_other():
    k = np.array([0.1, 1.0])
    both = hmcode(k, lambda q: np.concatenate([linear(q), 0.3 * linear(q)]), 0.31, 0.049, 0.68, 0.965, [0.0, 1.0])
    alone = hmcode(k, lambda q: 0.3 * linear(q), 0.31, 0.049, 0.68, 0.965, 1.0)
    assert both[1] == pytest.approx(alone[0], rel=1e-12)


def test_wavenumbers_beyond_are_refused():
    with pytest.raises(DeepfieldError, match="0 to 50"):
        hmcode([100.0], linear, 0.31, 0.049, 0.68, 0.965, 0.0)
