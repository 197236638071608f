import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import (
    Lens,
    Planes,
    curves,
    epl,
    images,
    nfw,
    point_mass,
    point_mass_images,
    shear,
    sheet,
    sie,
    sis,
)

F64 = torch.float64
_spec = importlib.util.spec_from_file_location("truth", Path(__file__).with_name("truth.py"))
truth = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(truth)


def residual(lens, found, *source):
    """The largest distance in the source plane between where images come from and the sources."""
    bx, by = lens.source(found.x, found.y)
    off = torch.hypot(bx - torch.as_tensor(source[0], dtype=F64)[..., None],
                      by - torch.as_tensor(source[1], dtype=F64)[..., None])  # fmt: skip
    return float(torch.nan_to_num(off).max())


def test_no_image_is_missed_or_counted_twice():
    q, phi, kappa, gamma1, gamma2, *source = truth.random_isothermal(1500, seed=1)
    lens = Lens(sie(np.ones(len(q)), q, phi), sheet(kappa=kappa, gamma1=gamma1, gamma2=gamma2))
    found = images(lens, *source)
    want = truth.isothermal_counts(q, phi, kappa, gamma1, gamma2, *source)
    assert set(np.unique(want)) >= {1, 2, 3, 4}  # three where the cut lies within the astroid
    np.testing.assert_array_equal(found.count.numpy(), want)
    np.testing.assert_array_equal(torch.isfinite(found.x).sum(-1).numpy(), want)
    assert residual(lens, found, *source) < 1e-13


@pytest.mark.parametrize(
    "lens, centre",
    [
        (Lens(epl(1.0, 0.6, 0.4, 1.6), shear(0.05, 1.0)), (0, 0)),
        (Lens(epl(1.0, 0.4, 0.4, 2.4), shear(0.1, 0.2)), (0, 0)),
        (Lens(nfw(0.4, 8.0), shear(0.05, 0.3)), (0, 0)),
        (Lens(sie(1.0, 0.8, 0.0), epl(0.15, 0.9, 1.0, 1.8, x=0.9, y=0.5)), (0, 0)),
        (Lens(point_mass(1.0), nfw(0.1, 3.0, x=0.2), shear(0.1, 0.0)), (0, 0)),
        (Lens(epl(1.0, 0.7, 0.0, 1.9), sheet(kappa=0.15, gamma1=0.1)), (0, 0)),
    ],
)
def test_as_many_images_as_mapped_triangles_hold_the_source(lens, centre):
    rng = np.random.default_rng(5)
    sources = rng.uniform(-0.6, 0.6, (6, 2))
    sources[0] *= 0.1
    found = images(lens, sources[:, 0], sources[:, 1], faintest=0.0)
    assert residual(lens, found, sources[:, 0], sources[:, 1]) < 1e-10  # images in steep centres
    for k, source in enumerate(sources):
        near = torch.hypot(found.x[k] - centre[0], found.y[k] - centre[1])
        seen = int((near > 1e-5).sum())  # within that radius the mesh sees nothing
        assert truth.triangle_count(lens, source, centre) == seen


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2])
def test_pairs_appear_at_the_caustic(angle):
    # Walk across the fold of an astroid: inside there are two images more, however near.
    lens = Lens(sie(1.0, 0.5, angle))
    c = curves(lens).caustics[0]
    k = len(c) // 7
    tangent = c[k + 1] - c[k - 1]
    normal = torch.stack([-tangent[1], tangent[0]]) / tangent.norm()
    steps = torch.tensor([1e-2, 1e-4, 1e-6, 1e-8], dtype=F64)
    counts = []
    for side in (1, -1):
        place = c[k] + side * steps[:, None] * normal
        found = images(lens, place[:, 0], place[:, 1])
        assert residual(lens, found, place[:, 0], place[:, 1]) < 1e-13
        counts.append(found.count.tolist())
    assert sorted(counts) in ([[1] * 4, [3] * 4], [[2] * 4, [4] * 4])


def test_sources_on_axes_have_all_their_images():
    lens = Lens(sie(1.0, 0.7, 0.0))
    cusp, cut = float(curves(lens).caustics[0][:, 0].max()), float(curves(lens).cuts[0][:, 0].max())
    x = torch.tensor([0.0, 0.5 * cusp, 0.99 * cusp, 1.01 * cusp, 0.99 * cut, 1.01 * cut], dtype=F64)
    zero = torch.zeros_like(x)
    assert images(lens, x, zero).count.tolist() == [4, 4, 4, 2, 2, 1]
    turned = Lens(sie(1.0, 0.7, math.pi / 2))
    assert images(turned, zero, x).count.tolist() == [4, 4, 4, 2, 2, 1]


def test_point_masses_and_spheres_in_closed_form():
    beta = torch.tensor([1e-3, 0.4, 2.0, 7.0], dtype=F64)
    (outer, inner), (bright, faint) = point_mass_images(beta, 1.3)
    found = images(Lens(point_mass(1.3)), beta, torch.zeros(4), faintest=0)
    assert found.count.tolist() == [2, 2, 2, 2]
    torch.testing.assert_close(found.x, torch.stack([outer, inner], -1), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.magnification, torch.stack([bright, faint], -1), rtol=1e-8, atol=0)
    sphere = images(Lens(sis(1.2)), [0.5, 1.3], [0.0, 0.0])
    assert sphere.count.tolist() == [2, 1]
    assert sphere.x[0].tolist() == pytest.approx([1.7, -0.7])


def test_a_ring_is_called_one():
    for lens in (Lens(sis(1.0)), Lens(point_mass(1.0)), Lens(nfw(0.4, 8.0))):
        found = images(lens, [0.0, 0.3], [0.0, 0.0])
        assert found.count[0] == -1 and found.count[1] >= 2
        assert bool(torch.isnan(found.x[0]).all())
    assert int(images(Lens(sie(1.0, 0.99999, 0.3)), 0.0, 0.0).count) == 4  # no ring, though nearly


def test_images_in_several_planes():
    planes = Planes(
        [Lens(sie(1.0, 0.7, 0.3), shear(0.04, 1.0)), Lens(epl(0.3, 0.9, 0.0, 1.5, x=0.4))], [0.3, 0.7], 2.0
    )
    rng = np.random.default_rng(2)
    source = rng.uniform(-0.5, 0.5, (20, 2))
    found = images(planes, source[:, 0], source[:, 1], faintest=0)
    assert residual(planes, found, source[:, 0], source[:, 1]) < 1e-13
    for k in range(6):
        assert truth.triangle_count(planes, source[k], (0, 0)) == int(found.count[k])


def test_batches_and_shapes():
    lens = Lens(sie([1.0, 0.8], 0.7, [0.0, 0.5]))
    x, y = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=F64), 0.1
    found = images(lens, x, y)
    assert found.count.shape == (2, 3, 2) and found.x.shape[:3] == (2, 3, 2)
    one = images(lens[1], x[1, 2, 0], y)
    assert one.count.shape == () and int(one.count) == int(found.count[1, 2, 0])
    torch.testing.assert_close(one.x, found.x[1, 2, 0][: int(one.count)])
    assert images(lens[0], torch.zeros(0), torch.zeros(0)).count.shape == (0,)
    assert bool((found.magnification.abs().nan_to_num(-1).diff(dim=-1) <= 0).all())  # brightest first


def test_positions_and_magnifications_carry_derivatives():
    def solve(theta_e, q, beta):
        found = images(Lens(sie(theta_e, q, 0.3), shear(0.05, 1.0)), beta, 0.05)
        return torch.cat([found.x, found.y, found.magnification])

    start = [torch.tensor(v, dtype=F64) for v in (1.0, 0.7, 0.1)]
    exact = torch.autograd.functional.jacobian(solve, tuple(start))
    for k in range(3):
        up, down = ([v + s * 1e-6 * (i == k) for i, v in enumerate(start)] for s in (1, -1))
        torch.testing.assert_close(exact[k], (solve(*up) - solve(*down)) / 2e-6, rtol=1e-6, atol=1e-6)


def test_float32_lenses_give_the_same_images():
    lens = Lens(sie(torch.tensor(1.0), torch.tensor(0.5), torch.tensor(0.25)))
    found, exact = images(lens, [0.1], [0.0]), images(Lens(sie(1.0, 0.5, 0.25)), [0.1], [0.0])
    torch.testing.assert_close(found.x, exact.x)


def test_faint_images_are_left_out():
    lens = Lens(epl(1.0, 0.8, 0.0, 1.5))
    assert images(lens, 0.1, 0.05).count > images(lens, 0.1, 0.05, faintest=0.5).count


def test_sources_that_make_no_sense():
    with pytest.raises(DeepfieldError, match="a position of a source is not finite"):
        images(Lens(sis(1.0)), [0.1, math.nan], 0.0)
    with pytest.raises(DeepfieldError, match=r"2 lenses need sources of shape \(2, ...\), got \(3,\)"):
        images(Lens(sis([1.0, 2.0])), [0.1, 0.2, 0.3], 0.0)
    with pytest.raises(DeepfieldError, match="no square of sky holds all images"):
        images(Lens(sheet(kappa=1.0)), 0.1, 0.1)
