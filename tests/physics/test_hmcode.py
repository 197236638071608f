"""HMcode2020: its limits and parts; emulators/test_power.py has it against CAMB's."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.physics.hmcode import Growth, hmcode
from deepfield.physics.power import growth, transfer


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


def test_growth_is_that_of_dark_energy_in_general():
    z = np.array([0.0, 1.0, 3.0])
    for w0, wa in ((-1.0, 0.0), (-0.8, 0.3)):
        found = Growth(*(np.full(3, v) for v in (0.3, w0, wa)), z)
        assert found.value / found.value[0] == pytest.approx(growth(z, 0.3, w0, wa)[0], rel=1e-4)
        # Scale factors are found from growth again.
        assert found.inverse(found.value[:, None])[:, 0] == pytest.approx(1 / (1 + z), rel=1e-4)
    # Without dark energy D = a, and so is its integral over ln a.
    alone = Growth(np.full(3, 0.99999), np.full(3, -1.0), np.zeros(3), z)
    assert alone.value * (1 + z) == pytest.approx(1, rel=1e-4)
    assert alone.total * (1 + z) == pytest.approx(1, rel=1e-3)


def test_neutrinos_and_dark_energy_change_it():
    k = np.array([1.0])
    base = hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0)
    assert hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0, f_nu=0.02) != pytest.approx(base, rel=1e-3)
    # The same linear spectrum today, grown later: haloes formed later and are less concentrated.
    late = hmcode(np.array([5.0]), linear, 0.31, 0.049, 0.68, 0.965, 0.0, w0=-1.3)
    assert late < hmcode(np.array([5.0]), linear, 0.31, 0.049, 0.68, 0.965, 0.0)


def test_feedback_takes_power_from_groups_and_adds_stars():
    """Against CAMB 2.0.5 (mead2020_feedback) in emulators/test_wide.py; here its limits."""
    k = np.array([0.001, 0.1, 5.0, 50.0])
    plain = hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0)[0]
    mild, strong = (hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0, log_t_agn=t)[0] / plain for t in (7.6, 8.0))
    assert mild[0] == pytest.approx(1, abs=1e-4) and strong[0] == pytest.approx(1, abs=1e-4)
    assert strong[2] < mild[2] < 1 and strong[1] < 1
    # Stars in the centres raise the smallest scales again.
    assert strong[3] > strong[2]
