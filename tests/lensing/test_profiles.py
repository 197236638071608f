import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.func import grad, jacrev, vmap

from deepfield.lensing import Lens, epl, nfw, sheet, sie
from deepfield.lensing import profiles as pr

F64 = torch.float64
KINDS = {"sie": sie, "epl": epl, "nfw": nfw, "sheet": sheet}
Z_LENS, Z_SOURCE = 0.5, 2.0
# One lens of each kind in float64, and the two functions of one position that are differentiated.
EXAMPLES = {
    "point": (1.3,),
    "sie": (1.1, 0.6, 0.4),
    "epl": (1.1, 0.3, -0.7, 2.3),
    "nfw": (0.3, 2.0),
    "sheet": (0.1, 0.05, -0.2),
}


def quantities(kind, columns, dtype):
    from astropy.cosmology import FlatLambdaCDM

    given = {k: torch.as_tensor(v, dtype=dtype) for k, v in columns.items() if k not in ("mass", "concentration")}
    x, y = given.pop("at_x"), given.pop("at_y")
    lens = Lens(KINDS[kind](**given))
    cosmo = FlatLambdaCDM(H0=70.0, Om0=0.3, Tcmb0=0.0)
    ax, ay = lens.deflection(x, y)
    gamma1, gamma2 = lens.shear(x, y)
    delay = lens.time_delay(x, y, *lens.source(x, y), z_lens=Z_LENS, z_source=Z_SOURCE, cosmo=cosmo)
    return {
        "potential": lens.potential(x, y), "alpha_x": ax, "alpha_y": ay, "kappa": lens.convergence(x, y),
        "gamma1": gamma1, "gamma2": gamma2, "magnification": lens.magnification(x, y), "delay": delay,
    }  # fmt: skip


@pytest.mark.parametrize("peer", ["lenstronomy", "caustics"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_agrees_with_other_codes_to_a_hundred_millionth(kind, peer, reference):
    columns = {k.split("/")[1]: v for k, v in reference.items() if k.startswith(f"{kind}/") and k.count("/") == 1}
    theirs = {k.split("/")[2]: v for k, v in reference.items() if k.startswith(f"{kind}/{peer}/")}
    columns |= {k: theirs.pop(k) for k in ("kappa_s", "r_s") if k in theirs}  # caustics makes its own of a mass
    assert len(columns["at_x"]) == 250 and len(theirs) == 8
    if "q" in columns:
        assert columns["q"].min() == 0.2 and (columns["q"] == 0.999999).sum() > 5
    double, single = (quantities(kind, columns, dtype) for dtype in (F64, torch.float32))
    for name, theirs_of_it in theirs.items():
        ours = double[name].numpy()
        if (peer, name) == ("caustics", "magnification"):  # it gives no sign
            ours = np.abs(ours)
        size = np.maximum(1, np.abs(theirs_of_it))
        assert ours.dtype == np.float64
        assert np.max(np.abs(ours - theirs_of_it) / size) < 1e-8, name
        if name not in ("magnification", "delay"):  # differences of like numbers
            assert single[name].dtype == torch.float32
            rough = np.maximum(size, np.abs(columns.get("r_s", 0.0)) ** 2 if name == "potential" else 0)
            assert np.max(np.abs(single[name].numpy() - theirs_of_it) / rough) < 2e-5, name


def points(n=40, seed=0, low=0.05, high=4.0):
    rng = np.random.default_rng(seed)
    radius, angle = np.exp(rng.uniform(np.log(low), np.log(high), n)), rng.uniform(-np.pi, np.pi, n)
    return torch.tensor(np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1))


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_deflection_and_second_derivatives_are_those_of_the_potential(kind):
    _, potential, deflection, hessian = pr.PROFILES[kind]
    parameters = tuple(torch.tensor(v, dtype=F64) for v in EXAMPLES[kind])
    p = points()
    alpha = torch.stack(deflection(p[:, 0], p[:, 1], *parameters), -1)
    slope = vmap(grad(lambda t: potential(t[0], t[1], *parameters)))(p)
    torch.testing.assert_close(alpha, slope, rtol=1e-10, atol=1e-11)
    second = vmap(jacrev(lambda t: torch.stack(deflection(t[0], t[1], *parameters))))(p)
    xx, xy, yy = hessian(p[:, 0], p[:, 1], *parameters)
    found = torch.stack([torch.stack([xx, xy], -1), torch.stack([xy, yy], -1)], -1)
    torch.testing.assert_close(found, second, rtol=1e-9, atol=1e-9)
    kappa = 0.5 * (second[:, 0, 0] + second[:, 1, 1])  # half the divergence of alpha
    torch.testing.assert_close(0.5 * (xx + yy), kappa, rtol=1e-9, atol=1e-9)


def test_convergence_is_what_the_profiles_are_defined_by():
    p = points()
    x, y = p[:, 0], p[:, 1]
    q, turn = 0.35, 0.8
    major, minor = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    ellipse = torch.sqrt(q * major**2 + minor**2 / q)
    for slope in (1.4, 2.0, 2.6):
        xx, _, yy = pr.epl_hessian(x, y, 1.2, q, turn, slope)
        torch.testing.assert_close(0.5 * (xx + yy), (3 - slope) / 2 * (1.2 / ellipse) ** (slope - 1))
    # Projected density of an NFW halo, integrated along the line of sight.
    from scipy.integrate import quad

    for u in (0.03, 0.4, 0.999, 1.0, 1.001, 3.0):
        xx, _, yy = pr.nfw_hessian(torch.tensor(2.0 * u, dtype=F64), torch.tensor(0.0, dtype=F64), 0.3, 2.0)
        depth = 2 * quad(lambda z: 1 / (r := math.hypot(u, z)) / (1 + r) ** 2, 0, np.inf, epsabs=0)[0]  # noqa: B023
        assert float(0.5 * (xx + yy)) == pytest.approx(0.3 * depth, rel=1e-8)


def test_mean_convergence_within_the_einstein_ellipse_is_one():
    t = torch.arange(4000, dtype=F64) * (2 * math.pi / 4000)
    for q, slope in ((0.5, 2.0), (0.3, 2.4), (1.0, 1.5)):
        x, y = 1.3 / math.sqrt(q) * torch.cos(t), 1.3 * math.sqrt(q) * torch.sin(t)
        ax, ay = pr.epl_deflection(x, y, 1.3, q, 0.0, slope)
        # Gauss: twice the integral of kappa within is the flux of alpha through the ellipse.
        flux = (
            (ax * 1.3 * math.sqrt(q) * torch.cos(t) + ay * 1.3 / math.sqrt(q) * torch.sin(t)).mean() * 2 * math.pi
        )
        assert float(flux / (2 * math.pi * 1.3**2)) == pytest.approx(1.0, rel=1e-10)


def test_point_mass_closed_form():
    p = points(200, low=1e-3, high=1e3)
    r = p.norm(dim=-1)
    ax, ay = pr.point_deflection(p[:, 0], p[:, 1], 1.7)
    along = (ax * p[:, 0] + ay * p[:, 1]) / r
    torch.testing.assert_close(along, 1.7**2 / r, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.hypot(ax, ay), 1.7**2 / r, rtol=1e-12, atol=0)
    torch.testing.assert_close(pr.point_potential(p[:, 0], p[:, 1], 1.7), 1.7**2 * torch.log(r))
    magnification = Lens_point(1.7).magnification(p[:, 0], p[:, 1])
    exact = 1 / ((1 - (1.7 / r) ** 2) * (1 + (1.7 / r) ** 2))
    torch.testing.assert_close(magnification, exact, rtol=1e-12, atol=1e-12)


def Lens_point(theta_e):
    from deepfield.lensing import point_mass

    return Lens(point_mass(theta_e))


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_round_ellipsoids_are_no_special_case(dtype):
    p = points().to(dtype)
    x, y = p[:, 0], p[:, 1]
    r = p.norm(dim=-1)
    tight = {F64: 1e-14, torch.float32: 1e-6}[dtype]
    for q in (1.0, 1 - 1e-9, 1 - 1e-6):
        ax, ay = pr.sie_deflection(x, y, 1.2, q, 0.3)
        torch.testing.assert_close(ax, 1.2 * x / r, rtol=2 * (1 - q) + tight, atol=2 * (1 - q) + tight)
        torch.testing.assert_close(ay, 1.2 * y / r, rtol=2 * (1 - q) + tight, atol=2 * (1 - q) + tight)
    # The derivative by q passes through q = 1 as well: in float64 it is that of the series at 0.999.
    q = torch.tensor([1.0, 1 - 1e-7, 0.999], dtype=dtype, requires_grad=True)
    ax, _ = pr.sie_deflection(x[:, None], y[:, None], 1.2, q, 0.3)
    for row in ax:
        (slope,) = torch.autograd.grad(row.sum(), q, retain_graph=True)
        assert torch.isfinite(slope).all()
        assert float((slope - slope[0]).abs().max()) < 3e-3
        if dtype == F64:
            assert float((slope[1] - slope[0]).abs()) < 1e-6
    if dtype == F64:
        step = 1e-5
        low, high = (pr.sie_deflection(x, y, 1.2, 1 - k * step, 0.3)[0] for k in (2, 1))
        flat = pr.sie_deflection(x, y, 1.2, 1.0, 0.3)[0]
        by_hand = (3 * flat - 4 * high + low) / (2 * step)
        slopes = torch.stack([torch.autograd.grad(row[0], q, retain_graph=True)[0][0] for row in ax])
        torch.testing.assert_close(slopes, by_hand, rtol=1e-4, atol=1e-5)


def test_isothermal_power_law_is_the_ellipsoid():
    p = points()
    for q in (0.2, 0.7, 1.0):
        for one, other in ((pr.sie_deflection, pr.epl_deflection), (pr.sie_hessian, pr.epl_hessian)):
            a = torch.stack(one(p[:, 0], p[:, 1], 1.2, q, 0.3))
            b = torch.stack(other(p[:, 0], p[:, 1], 1.2, q, 0.3, 2.0))
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_everything_is_differentiable(kind):
    names, potential, deflection, hessian = pr.PROFILES[kind]
    values = [torch.tensor(v, dtype=F64, requires_grad=True) for v in EXAMPLES[kind]]
    for place in ((0.7, -1.1), (1e-3, 2e-3)):
        x, y = (torch.tensor(v, dtype=F64, requires_grad=True) for v in place)
        assert len(names) == len(values)
        for function in (potential, deflection, hessian):
            assert gradcheck(function, (x, y, *values), eps=1e-8, atol=1e-3, rtol=1e-4)


def test_halos_keep_their_precision_in_the_middle():
    # For small u: alpha = kappa_s r_s u (2 L - 1) + ..., kappa = 2 kappa_s (L - 1), psi = kappa_s r^2 (L - 1/2)
    # + ..., with L = ln(2 / u); the next terms are u^2 smaller.
    for u in (1e-3, 1e-5, 1e-8):
        x, zero = torch.tensor(2.0 * u, dtype=F64), torch.tensor(0.0, dtype=F64)
        log = math.log(2 / u)
        near = {"rel": 10 * u * u + 1e-13}
        assert float(pr.nfw_deflection(x, zero, 0.3, 2.0)[0]) == pytest.approx(0.6 * u * (2 * log - 1), **near)
        xx, _, yy = pr.nfw_hessian(x, zero, 0.3, 2.0)
        assert float(0.5 * (xx + yy)) == pytest.approx(0.6 * (log - 1), **near)
        assert float(0.5 * (yy - xx)) == pytest.approx(0.3, rel=200 * u * u * log + 1e-12 * log)
        assert float(pr.nfw_potential(x, zero, 0.3, 2.0)) == pytest.approx(1.2 * u * u * log, **near)
        single = pr.nfw_deflection(x.float(), zero.float(), 0.3, 2.0)[0]
        assert float(single) == pytest.approx(0.6 * u * (2 * log - 1), rel=1e-5 + 10 * u * u)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_the_very_centre_is_no_trap(kind, dtype):
    zero = torch.zeros(2, dtype=dtype)
    _, potential, deflection, _ = pr.PROFILES[kind]
    assert all(bool((part == 0).all()) for part in deflection(zero, zero, *EXAMPLES[kind]))
    assert bool(torch.isfinite(potential(zero, zero, *EXAMPLES[kind])).all())


@pytest.mark.parametrize("dtype, within", [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_what_many_pixels_share_of_an_isothermal_ellipsoid(dtype, within):
    """The renderer's form is the other one, near q = 1 and at it too."""
    g = torch.Generator().manual_seed(0)
    x, y, phi = (4 * torch.rand(3, 400, generator=g, dtype=F64) - 2).to(dtype)
    q = torch.tensor([0.2, 0.5, 0.9, 0.99999, 1.0], dtype=dtype).repeat(80)
    fast = pr.bent_by_sie(x, y, *pr.sie_numbers(torch.full_like(q, 1.2), q, phi))
    plain = pr.sie_deflection(x.double(), y.double(), 1.2, q.double(), phi.double())
    for one, other in zip(fast, plain):
        assert float((one.double() - other).abs().max()) < within
