import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM
from torch.func import jacrev, vmap

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Lens, Planes, images, shear, sie, sis

COSMO = FlatLambdaCDM(H0=70.0, Om0=0.3, Tcmb0=0.0)
X = torch.tensor([0.9, -1.1, 0.3, 2.0], dtype=torch.float64)
Y = torch.tensor([0.2, 0.4, -0.9, 1.0], dtype=torch.float64)


def pair():
    return [Lens(sie(1.0, 0.7, 0.3), shear(0.04, 1.0)), Lens(sie(0.4, 0.6, 1.3, x=0.3, y=-0.2))]


def test_rays_magnifications_and_delays_agree_with_lenstronomy(reference):
    lenses, places, sources = (reference[f"planes/{k}"] for k in ("lens", "at", "source"))
    assert len(lenses) == 40
    for k, (near, far) in enumerate(lenses):
        planes = Planes([Lens(sie(*v[:3], x=v[3], y=v[4])) for v in (near, far)], (0.3, 0.7), 2.0, COSMO)
        x, y = places[k][:, np.isfinite(places[k][0])]
        n = len(x)
        np.testing.assert_allclose(np.stack(planes.source(x, y)), reference["planes/beta"][k][:, :n], atol=1e-12)
        # lenstronomy's magnification is one of differences here.
        np.testing.assert_allclose(planes.magnification(x, y), reference["planes/magnification"][k][:n], rtol=1e-5)
        days = planes.time_delay(x, y, *sources[k]).numpy()
        np.testing.assert_allclose(days - days[0], reference["planes/delay"][k][:n], rtol=1e-8, atol=1e-7)
        assert int(images(planes, *sources[k]).count) == n


def test_one_plane_is_a_lens():
    lens = pair()[0]
    planes = Planes([lens], [0.4], 1.5)
    torch.testing.assert_close(planes.source(X, Y), lens.source(X, Y))
    torch.testing.assert_close(planes.magnification(X, Y), lens.magnification(X, Y))
    days = lens.time_delay(X, Y, 0.1, 0.2, z_lens=0.4, z_source=1.5)
    torch.testing.assert_close(planes.time_delay(X, Y, 0.1, 0.2), days)


def test_planes_at_almost_one_redshift_add_up():
    near, far = pair()
    planes, lens = Planes([near, far], [0.5, 0.5 + 1e-9], 1.5), Lens(*near.deflectors, *far.deflectors)
    torch.testing.assert_close(planes.source(X, Y), lens.source(X, Y), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(planes.magnification(X, Y), lens.magnification(X, Y), rtol=1e-5, atol=1e-6)


def test_jacobian_is_the_derivative_of_the_rays():
    planes = Planes([*pair(), Lens(sis(0.2, y=0.5))], [0.3, 0.6, 0.9], 2.0)
    beta = lambda t: torch.stack(planes.source(t[0], t[1]))  # noqa: E731
    exact = vmap(jacrev(beta))(torch.stack([X, Y], -1))
    torch.testing.assert_close(torch.stack(planes.jacobian(X, Y), -1).view(-1, 2, 2), exact)
    assert float((exact[:, 0, 1] - exact[:, 1, 0]).abs().max()) > 1e-3  # planes turn images


def test_images_are_where_the_arrival_time_is_stationary():
    planes = Planes([*pair(), Lens(sis(0.2, y=0.5))], [0.3, 0.6, 0.9], 2.0)
    found = images(planes, 0.1, -0.05)
    assert int(found.count) >= 2
    for x, y in zip(found.x, found.y):
        place = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        slopes = torch.autograd.grad(planes.time_delay(*place, 0.1, -0.05), place)
        assert max(abs(float(s)) for s in slopes) < 1e-8  # days per arcsec, of a hundred or so


def test_batches_of_systems():
    lenses = [Lens(sie(torch.tensor([0.8, 1.2]), 0.7, 0.3)), Lens(sis(torch.tensor([0.2, 0.3]), x=0.4))]
    planes = Planes(lenses, [0.3, 0.7], 2.0)
    x, y = X.float().view(2, 2), Y.float().view(2, 2)
    for k in range(2):
        one = Planes([lens[k] for lens in lenses], [0.3, 0.7], 2.0)
        torch.testing.assert_close(planes.source(x, y)[0][k], one.source(x[k], y[k])[0])
    assert planes.batch == 2 and planes[1].batch is None


@pytest.mark.parametrize(
    "redshifts, z_source", [([0.7, 0.3], 2.0), ([0.3, 0.3], 2.0), ([0.3, 0.7], 0.5), ([0.3], 2.0)]
)
def test_redshifts_grow_up_to_the_source(redshifts, z_source):
    with pytest.raises(DeepfieldError, match="as many redshifts as lenses, growing up to the source, are needed"):
        Planes(pair(), redshifts, z_source)
