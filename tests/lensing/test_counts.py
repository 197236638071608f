import numpy as np
import torch

from deepfield.lensing import Lens, images, shear, sie
from deepfield.lensing.counts import image_count


def test_counts_are_those_of_the_solver():
    """The lens equation solved for all images, over flat lenses, shear and sources in and out of the caustics."""
    rng, n = np.random.default_rng(1), 150
    theta_e, q, phi = rng.uniform(0.5, 2, n), rng.uniform(0.2, 1, n), rng.uniform(0, 180, n)
    gamma, gamma_phi = rng.rayleigh(0.06, n), rng.uniform(0, 180, n)
    radius, where = 1.3 * theta_e * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    x, y = radius * np.cos(where), radius * np.sin(where)
    found = image_count(theta_e, q, phi, gamma, gamma_phi, x, y)
    t = torch.tensor
    lens = Lens(sie(t(theta_e), t(q), t(np.radians(phi))), shear(t(gamma), t(np.radians(gamma_phi))))
    solved = images(lens, t(x), t(y), faintest=1e-4).count.numpy()
    assert (found == solved).all() and set(np.unique(solved)) >= {1, 2, 4}


def test_a_naked_cusp_and_a_sphere():
    # Nearly an edge-on disc: the caustic sticks out of the cut, and a source in it has three images.
    q, x = 0.2, np.linspace(0.3, 2.2, 96)
    count = image_count(1.0, q, 0.0, 0.0, 0.0, x, 0.0)
    lens = Lens(sie(1.0, q, 0.0))
    assert (count == images(lens, torch.tensor(x), torch.zeros(96).double(), faintest=1e-4).count.numpy()).all()
    assert 3 in count
    assert image_count(1.0, 1.0, 0.0, 0.0, 0.0, [0.5, 0.99, 1.01], 0.0).tolist() == [2, 2, 1]
    assert image_count([], 1.0, 0.0, 0.0, 0.0, [], []).shape == (0,)
