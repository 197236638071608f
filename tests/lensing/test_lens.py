import math

import astropy.units as u
import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Lens, epl, nfw, point_mass, point_mass_images, shear, sheet, sie, sis
from deepfield.physics.lensing import delay_unit

F64 = torch.float64


def positions(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.uniform(-2, 2, shape)), torch.tensor(rng.uniform(-2, 2, shape))


def test_deflectors_add_up():
    x, y = positions(30)
    parts = [sie(1.0, 0.7, 0.3, x=0.1), nfw(0.2, 4.0, y=-0.3), shear(0.07, 1.2), sheet(kappa=0.05)]
    whole, alone = Lens(*parts), [Lens(p) for p in parts]
    torch.testing.assert_close(whole.potential(x, y), sum(lens.potential(x, y) for lens in alone))
    torch.testing.assert_close(whole.convergence(x, y), sum(lens.convergence(x, y) for lens in alone))
    for axis in (0, 1):
        torch.testing.assert_close(
            whole.deflection(x, y)[axis], sum(lens.deflection(x, y)[axis] for lens in alone)
        )
        torch.testing.assert_close(whole.shear(x, y)[axis], sum(lens.shear(x, y)[axis] for lens in alone))


def test_a_batch_is_its_lenses_one_by_one():
    theta, q, phi = torch.tensor([0.7, 1.0, 1.4]), torch.tensor([0.4, 0.8, 1.0]), torch.tensor([0.0, 1.0, 2.0])
    batch = Lens(sie(theta, q, phi, x=0.1), shear(torch.tensor([0.0, 0.05, 0.1]), 0.4))
    assert batch.batch == 3 and Lens(sis(1.0)).batch is None
    x, y = positions(3, 4, 5)
    grid_x, grid_y = positions(1, 6)
    for k in range(3):
        one = Lens(sie(float(theta[k]), float(q[k]), float(phi[k]), x=0.1), shear([0.0, 0.05, 0.1][k], 0.4))
        torch.testing.assert_close(
            batch.magnification(x, y)[k], one.magnification(x[k], y[k]), rtol=1e-4, atol=1e-4
        )
        grid = one.potential(grid_x[0], grid_y[0])
        torch.testing.assert_close(batch.potential(grid_x, grid_y)[k], grid, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(batch[k].potential(x[k], y[k]), batch.potential(x, y)[k])
    chosen = batch[torch.tensor([2, 0, 2])]
    assert chosen.batch == 3
    torch.testing.assert_close(chosen.potential(x, y)[0], batch.potential(x[[0, 0, 0]], y[[0, 0, 0]])[2])


def test_units_and_numbers_of_any_kind():
    a = Lens(sie(1000 * u.mas, 0.7, 30 * u.deg, x=1 / 60 * u.arcmin))
    b = Lens(sie(torch.tensor(1.0, dtype=F64), np.float64(0.7), math.radians(30), x=1))
    x, y = positions(5)
    torch.testing.assert_close(a.potential(x.numpy() * u.arcsec, y.numpy()), b.potential(x, y))
    assert Lens(sie(1.0, 0.5, 0.0)).potential(np.ones(2, np.float32), 0.5).dtype == torch.float32


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: sie(1.0, 0.0, 0.0), r"q lies in \(0, 1\], got 0"),
        (lambda: sie(1.0, [0.5, 1.2], 0.0), r"q lies in \(0, 1\], got 1.2 in row 1"),
        (lambda: sie(-1.0, 0.5, 0.0), r"theta_e lies in \[0, inf\) arcsec, got -1"),
        (lambda: point_mass(math.nan), "theta_e lies in .* got nan"),
        (lambda: sis(1.0, x=math.inf), "x lies in .* arcsec, got inf"),
        (lambda: epl(1.0, 0.5, 0.0, 3.0), r"slope lies in \(1, 3\), got 3"),
        (lambda: nfw(0.1, 0.0), r"r_s lies in \(0, inf\) arcsec, got 0"),
        (lambda: sie(3 * u.kg, 0.5, 0.0), "numbers in arcsec are needed, not <Quantity 3. kg>"),
        (lambda: sie("wide", 0.5, 0.0), "numbers in arcsec are needed, not 'wide'"),
        (lambda: sie(torch.ones(2, 2), 0.5, 0.0), r"one number or one for each lens, not of shape \(2, 2\)"),
        (lambda: Lens(), "a lens has one deflector or more"),
        (lambda: Lens(sis([1.0, 2.0]), sis([1.0, 2.0, 3.0])), r"as many lenses each, .* for \[2, 3\]"),
    ],
)  # fmt: skip
def test_what_is_unphysical_is_named(make, message):
    with pytest.raises(DeepfieldError, match=message):
        make()


def test_source_in_front_of_the_lens():
    with pytest.raises(DeepfieldError, match="source must lie behind the lens"):
        Lens(sis(1.0)).time_delay(1.0, 0.0, 0.1, 0.0, z_lens=1.0, z_source=0.8)


def test_isothermal_sphere_by_hand():
    # Images at beta +- theta_E, magnified by 1 / (1 - theta_E / |theta|), the second delayed by 2 theta_E beta.
    lens, beta = Lens(sis(1.2)), 0.5
    x, zero = torch.tensor([beta + 1.2, beta - 1.2], dtype=F64), torch.zeros(2, dtype=F64)
    torch.testing.assert_close(lens.source(x, zero)[0], torch.full_like(x, beta), rtol=1e-14, atol=0)
    torch.testing.assert_close(lens.magnification(x, zero), 1 / (1 - 1.2 / x.abs()), rtol=1e-12, atol=0)
    days = lens.time_delay(x, zero, beta, 0.0, z_lens=0.5, z_source=2.0)
    assert float(days[1] - days[0]) == pytest.approx(2 * 1.2 * beta * float(delay_unit(0.5, 2.0)), rel=1e-12)


def test_images_are_where_the_fermat_potential_is_stationary():
    lens = Lens(epl(1.0, 0.6, 0.3, 2.2), shear(0.05, 1.0))
    x = torch.tensor(0.8, dtype=F64, requires_grad=True)
    y = torch.tensor(-0.9, dtype=F64, requires_grad=True)
    source = [v.detach() for v in lens.source(x, y)]
    for slope in torch.autograd.grad(lens.fermat(x, y, *source), (x, y)):
        assert abs(float(slope)) < 1e-14


def test_shear_stretches_along_its_angle():
    lens = Lens(shear(0.1, math.radians(30)))
    c, s = math.cos(math.radians(30)), math.sin(math.radians(30))
    along = [float(v) for v in lens.source(c, s)]
    across = [float(v) for v in lens.source(-s, c)]
    assert along == pytest.approx([0.9 * c, 0.9 * s]) and across == pytest.approx([-1.1 * s, 1.1 * c])


@pytest.mark.parametrize("beta", [1e-6, 0.3, -0.3, 2.0, 50.0])
def test_both_images_of_a_point_mass(beta):
    theta_e = 1.3
    (outer, inner), (bright, faint) = point_mass_images(beta, theta_e)
    for theta in (outer, inner):
        assert float(theta - theta_e**2 / theta) == pytest.approx(beta, rel=1e-12, abs=1e-13)
    assert float(outer) * beta > 0 > float(inner) * beta
    square = (beta / theta_e) ** 2
    total = (square + 2) / math.sqrt(square * (square + 4))  # Paczynski (1986)
    assert float(bright + abs(faint)) == pytest.approx(total, rel=1e-12)
    assert float(bright + faint) == pytest.approx(1.0, rel=1e-12, abs=1e-16 * total)
    x, zero = torch.stack([outer, inner]), torch.zeros(2, dtype=F64)
    found = Lens(point_mass(theta_e)).magnification(x, zero)
    torch.testing.assert_close(
        found, torch.stack([bright, faint]), rtol=1e-9 if abs(beta) > 1e-3 else 1e-5, atol=0
    )
