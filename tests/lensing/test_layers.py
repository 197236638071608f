import math

import numpy as np
import pytest
import torch

from deepfield.lensing import Lens, Sersic, images, layers, shear, sie
from deepfield.lensing.negatives import companions
from deepfield.lensing.render import pixel_grid, render

F64 = torch.zeros(0, dtype=torch.float64)


def rows(n=1, **values):
    columns = companions(n) | {name: np.ones(n) for name in ("theta_e", "q", "source_r_e")}
    columns |= {name: np.zeros(n) for name in ("phi", "shear", "shear_phi", "source_x", "source_y")}
    columns |= {name: np.broadcast_to(np.asarray(value, float), n).copy() for name, value in values.items()}
    return {name: torch.tensor(column) for name, column in columns.items()}


def painted(p, size=80, pixel=0.1, fine=4):
    x, y = pixel_grid(size, pixel, like=F64)
    n = len(p["layer"])
    return layers.painted(p, x.expand(n, -1, -1), y.expand(n, -1, -1), pixel, fine)


def test_arcs_are_those_of_the_exact_lens():
    """The same lens and Sersic source by `render`, whose deflections and images other codes agree with."""
    values = {"theta_e": 1.2, "q": 0.7, "phi": 50.0, "shear": 0.06, "shear_phi": 20.0, "source_x": 0.15}
    shape = {"source_y": -0.1, "source_r_e": 0.3, "source_q": 0.6, "source_phi": 110.0, "source_n": 1.2}
    body, knots = painted(rows(layer=layers.LENSED, **values, **shape))
    lens = Lens(sie(1.2, 0.7, math.radians(50)), shear(0.06, math.radians(20)))
    source = Sersic(1.0, 0.3, n=1.2, q=0.6, phi=math.radians(110), x=0.15, y=-0.1)
    exact = render(lens, [source], pixel=0.1, size=80, supersample=4, like=F64)
    assert float((body - exact).abs().max() / exact.max()) < 0.01 and not knots.any()
    assert float(body.sum()) == pytest.approx(float(exact.sum()), rel=5e-3)


def test_small_sources_are_magnified_as_points():
    x, y = torch.tensor([0.3, 0.5, 0.05]), torch.tensor([0.1, -0.4, 0.02])
    p = rows(3, layer=layers.LENSED, q=0.8, source_x=x, source_y=y, source_r_e=0.005)
    body, _ = painted(p, size=80, pixel=0.05, fine=24)
    mu = images(Lens(sie(1.0, 0.8, 0.0)), x.double(), y.double()).magnification.abs().nansum(-1)
    torch.testing.assert_close(body.sum((1, 2)), mu, rtol=0.015, atol=0)


def test_companions_have_the_flux_they_are_told():
    number = [1, 2, 3]
    p = rows(
        3, layer=layers.BLOBS, source_x=1.5, source_y=0.3, source_r_e=0.25, source_q=0.7, source_number=number
    )
    body, _ = painted(p)
    torch.testing.assert_close(body.sum((1, 2)), torch.ones(3).double(), rtol=0.02, atol=0)
    x, y = pixel_grid(80, 0.1, like=F64)
    assert float((body[0] * x).sum()) == pytest.approx(1.5, abs=0.02)
    # Each further one is the first, turned by the golden angle.
    turn = 2.399963
    there = torch.hypot(
        x - (1.5 * math.cos(turn) - 0.3 * math.sin(turn)), y - (1.5 * math.sin(turn) + 0.3 * math.cos(turn))
    )
    assert float(body[1][there[0] < 1].sum()) == pytest.approx(0.5, abs=0.05)
    bent = painted(rows(layer=layers.BLOBS, source_r_e=0.6, source_q=0.15, source_bend=1.0))[0][0]
    assert float(bent.sum()) == pytest.approx(1.0, rel=0.05)  # bending moves light, and keeps its area
    assert float((bent * y).sum()) > 0.1


def test_clumps_and_arms_share_a_sources_light():
    lensless = {"layer": layers.BLOBS, "source_r_e": 0.5}
    body, knots = painted(rows(**lensless, source_clumps=4, source_strength=0.4, source_phase=70.0))
    assert float(knots.sum()) == pytest.approx(0.4, rel=0.02) and float(body.sum()) == pytest.approx(0.6, rel=0.02)
    body, knots = painted(rows(**lensless, source_arms=2, source_strength=0.8, source_winding=1))
    assert abs(float(knots.sum())) < 0.02 and float(body.sum()) == pytest.approx(1.0, rel=0.02)
    assert float((body + knots).min()) > -1e-9 and float(knots.abs().sum()) > 0.2


def test_rings_spikes_and_trails():
    x, y = pixel_grid(80, 0.1, like=F64)
    r = torch.hypot(x, y)[0]
    ring, knots = painted(
        rows(layer=layers.RING, ring_radius=2.0, source_r_e=0.2, source_clumps=3, source_strength=0.5)
    )
    assert float(ring.sum()) == pytest.approx(1.0, rel=0.02) and abs(float(knots.sum())) < 0.02
    assert float((ring[0] * r).sum()) == pytest.approx(2.0, abs=0.05)
    assert float((ring + knots).min()) > -1e-9
    rays, _ = painted(rows(layer=layers.SPIKES, source_r_e=0.1, source_number=2.0))
    cross = (x[0].abs() < 0.3) | (y[0].abs() < 0.3)  # number = 2: two lines, at right angles
    assert float(rays[0][cross].sum()) > 0.98 * float(rays.sum()) and float(rays[0, 40, 75]) > 0
    line, _ = painted(rows(layer=layers.TRAIL, source_y=1.0, source_r_e=0.2))
    assert float((line[0] * y[0]).sum() / line.sum()) == pytest.approx(1.0, abs=0.02)
    assert float(line[0].std(1).max()) < 1e-6  # the same all along the row


def test_kinds_do_not_mix():
    p = rows(4, layer=[0, layers.BLOBS, layers.RING, layers.BLOBS], source_x=[0, 1.0, 0, -2.0], source_r_e=0.2)
    together = painted(p)[0]
    for k in range(4):
        alone = painted({name: column[k : k + 1] for name, column in p.items()})[0][0]
        assert torch.equal(alone, together[k])
    assert not together[0].any()
