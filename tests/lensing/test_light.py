import math

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.modeling.functional_models import Sersic2D

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Sersic


def test_agrees_with_astropy():
    # Sersic2D has ellip = 1 - q, theta from the x axis, and r_eff along the major axis, as we do.
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-2, 2, (2, 50))
    for n, q, phi in ((1.0, 0.6, 0.4), (4.0, 0.3, -1.2), (2.5, 1.0, 0.0)):
        light = Sersic(flux=7.0, r_e=0.8, n=n, q=q, phi=phi, x=0.1, y=-0.2)
        at_radius = float(light.brightness(0.1 + 0.8 * math.cos(phi), -0.2 + 0.8 * math.sin(phi)))
        theirs = Sersic2D(at_radius, r_eff=0.8, n=n, x_0=0.1, y_0=-0.2, ellip=1 - q, theta=phi)(x, y)
        np.testing.assert_allclose(light.brightness(x, y), theirs, rtol=2e-4)


@pytest.mark.parametrize("n", [0.5, 1.0, 3.0])
def test_flux_and_half_of_it(n):
    q, r_e = 0.5, 0.7
    t = torch.linspace(0, 2 * math.pi, 61, dtype=torch.float64)[:-1]
    r = torch.exp(torch.linspace(-16, math.log(60 * r_e), 6001, dtype=torch.float64))
    x, y = r[:, None] * torch.cos(t), q * r[:, None] * torch.sin(t)
    ring = q * r * Sersic(flux=3.0, r_e=r_e, n=n, q=q).brightness(x, y).mean(1) * 2 * math.pi
    light = torch.cumulative_trapezoid(ring, r)
    assert float(light[-1]) == pytest.approx(3.0, rel=1e-3)
    within = float(light[int(torch.searchsorted(r, torch.tensor(r_e, dtype=torch.float64))) - 1])
    assert within == pytest.approx(1.5, rel=5e-3)


def test_batches_and_units():
    batch = Sersic(torch.tensor([1.0, 2.0]), 0.5 * u.arcsec, n=1.0, q=torch.tensor([0.5, 1.0]), phi=45 * u.deg)
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    one = Sersic(2.0, 0.5, phi=math.pi / 4)
    torch.testing.assert_close(batch.brightness(x, y)[1], one.brightness(x[1], y[1]), check_dtype=False)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q": 1.2}, r"q lies in \(0, 1\], got 1.2"),
        ({"r_e": 0.0}, r"r_e lies in \(0, inf\) arcsec, got 0"),
        ({"n": 20.0}, r"n lies in \[0.3, 10\], got 20"),
        ({"flux": math.nan}, "flux lies in .*, got nan"),
    ],
)
def test_what_is_unphysical_is_named(change, message):
    with pytest.raises(DeepfieldError, match=message):
        Sersic(**{"flux": 1.0, "r_e": 0.5, **change})
