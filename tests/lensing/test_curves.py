import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Lens, Planes, curves, epl, images, nfw, point_mass, shear, sheet, sie, sis
from deepfield.lensing.lens import determinant


def area(curve):
    x, y = curve.T
    return 0.5 * abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()))


def winding(curve, x, y):
    """How often a closed curve goes round a point."""
    angle = torch.atan2(curve[:, 1] - y, curve[:, 0] - x).numpy()
    return round(abs(np.diff(np.unwrap(angle)).sum() / (2 * math.pi)))


def test_curves_of_an_ellipsoid_are_known():
    # Kormann, Schneider & Bartelmann (1994): kappa = 1/2 on the critical curve, an ellipse of area pi theta_E^2.
    found = curves(Lens(sie(1.2, 0.6, 0.4, x=0.3, y=-0.2)))
    assert [len(found.critical), len(found.caustics), len(found.cuts)] == [1, 1, 1]
    x, y = found.critical[0].T
    lens = Lens(sie(1.2, 0.6, 0.4, x=0.3, y=-0.2))
    torch.testing.assert_close(lens.convergence(x, y), torch.full_like(x, 0.5), rtol=1e-12, atol=0)
    assert area(found.critical[0]) == pytest.approx(math.pi * 1.2**2, rel=1e-4)
    # The cut's half widths are theta_E sqrt(q) / s times arcsin(s) and artanh(s), s^2 = 1 - q^2.
    flat = 0.8
    reach = (found.cuts[0] - torch.tensor([0.3, -0.2])).norm(dim=-1)
    scale = 1.2 * math.sqrt(0.6) / flat
    assert float(reach.min()) == pytest.approx(scale * math.asin(flat), rel=1e-4)
    assert float(reach.max()) == pytest.approx(scale * math.atanh(flat), rel=1e-4)


def test_round_lenses():
    sphere = curves(Lens(sis(1.3)))
    torch.testing.assert_close(sphere.critical[0].norm(dim=-1), torch.full_like(sphere.critical[0][:, 0], 1.3))
    assert float(sphere.caustics[0].norm(dim=-1).max()) < 1e-12
    power_law = curves(Lens(epl(1.0, 1.0, 0.0, 1.5)))
    # alpha = r^(1 - t) with t = 1/2: the radial curve is where alpha' = 1, r = (1 - t)^(1 / t).
    radii = [float(c.norm(dim=-1).mean()) for c in power_law.critical]
    assert radii == pytest.approx([1.0, 0.25], rel=1e-10)
    assert len(curves(Lens(nfw(0.4, 8.0))).critical) == 2
    assert curves(Lens(sheet(kappa=0.2))).critical == []


@pytest.mark.parametrize(
    "lens",
    [
        Lens(sie(1.0, 0.6, 0.4), shear(0.1, 1.0)),
        Lens(epl(1.0, 0.7, 0.0, 1.7), shear(0.05, 0.3)),
        Lens(point_mass(1.0), point_mass(0.5, x=1.2)),
        Lens(sie(1.0, 0.8, 0.2), sis(0.2, x=0.9, y=0.4)),
    ],
)
def test_sources_within_caustics_have_two_images_more(lens):
    found = curves(lens, resolution=600)
    for curve in found.critical:
        det = determinant(lens.jacobian(*curve.T))
        assert float(det.abs().max()) < 1e-10
        assert bool((curve[0] == curve[-1]).all())
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-1.2, 1.2, (2, 60))
    counts = images(lens, x, y, faintest=1e-5).count.tolist()
    steep = sum(d.kind == "point" for d in lens.deflectors)  # each adds an image at itself
    for k, count in enumerate(counts):
        folds = 2 * sum(winding(c, x[k], y[k]) for c in found.caustics)
        cuts = sum(winding(c, x[k], y[k]) for c in found.cuts)
        assert count == 1 + steep + folds + cuts, (x[k], y[k])


def test_planes_and_resolution():
    near, far = Lens(sie(1.0, 0.8, 0.2)), Lens(sis(0.3, x=0.5))
    planes = Planes([near, far], [0.3, 0.8], 2.0)
    coarse, fine = curves(planes, resolution=100), curves(planes, resolution=800)
    assert len(fine.critical) == 1 and fine.cuts == []
    assert float(determinant(planes.jacobian(*fine.critical[0].T)).abs().max()) < 1e-10
    assert area(coarse.critical[0]) == pytest.approx(area(fine.critical[0]), rel=2e-3)
    small = curves(near, window=0.2)
    assert small.critical == []


def test_curves_are_of_one_lens():
    batch = Lens(sis([1.0, 2.0]))
    with pytest.raises(DeepfieldError, match=r"of a batch take one by its number, lens\[0\]"):
        curves(batch)
    assert area(curves(batch[1]).critical[0]) == pytest.approx(4 * math.pi, rel=1e-4)
    with pytest.raises(DeepfieldError, match="resolution is at least 8, got 2"):
        curves(Lens(sis(1.0)), resolution=2)
