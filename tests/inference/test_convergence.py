import numpy as np
import pytest

from deepfield import data
from deepfield.core.errors import DataError
from deepfield.inference.convergence import (
    NOISE,
    SIZE,
    WIDTH,
    Convergence,
    convergence_power,
    power_spectrum,
    wavelet_counts,
)


def at_hand():
    try:
        return data.available("sbi_lens")
    except DataError:
        return False


needs_data = pytest.mark.skipif(not at_hand(), reason="sbi_lens is not at hand")


@pytest.fixture(scope="module")
def world():
    return Convergence()


@needs_data
def test_observed_map_is_like_simulations_of_its_posterior(world):
    """An outside truth: the published map came from another code, and so did the chain."""
    maps = world.simulate(np.repeat([world.reference.mean(0)], 60, 0), seed=0)
    for summary, most in ((power_spectrum, 2.0), (wavelet_counts, 2.0)):
        found, seen = summary(maps), summary(world.observed[None])[0]
        spread = found.std(0)
        used = spread > 1e-4
        assert (((seen - found.mean(0)) / spread)[used] ** 2).mean() < most
    # And it is not like those of a sky with twice the power.
    wrong = power_spectrum(world.simulate([[0.4, 1.0]] * 20, seed=1))
    seen = power_spectrum(world.observed[None])[0]
    assert (((seen - wrong.mean(0)) / wrong.std(0)) ** 2).mean() > 10


@needs_data
def test_maps_have_the_power_of_theory(world):
    maps = world.simulate(np.repeat([[0.3, 0.8]], 60, 0), seed=2)[:, 0]
    power = (np.abs(np.fft.fft2(maps)) ** 2).mean(0) * (WIDTH / SIZE**2) ** 2
    along = 2 * np.pi / WIDTH * SIZE * np.fft.fftfreq(SIZE)
    ell = np.hypot(along[:, None], along)
    for low, high in ((150, 400), (400, 1000), (1000, 2500)):
        ring = (ell > low) & (ell < high)
        expected = convergence_power(np.unique(ell[ring].round(3)), 0.3, 0.8)[0]
        table = dict(zip(np.unique(ell[ring].round(3)), expected))
        signal = np.mean([table[v] for v in ell[ring].round(3)])
        assert power[ring].mean() == pytest.approx(signal + (NOISE * WIDTH / SIZE) ** 2, rel=0.03)


@needs_data
def test_same_seed_same_maps_and_coarse_ones_are_their_means(world):
    theta = [[0.3, 0.8], [0.25, 0.9]]
    fine, coarse = world.simulate(theta, seed=5), Convergence(64).simulate(theta, seed=5)
    assert coarse.shape == (2, 1, 64, 64)
    assert np.allclose(fine.reshape(2, 1, 64, 2, 64, 2).mean((3, 5)), coarse, atol=1e-7)
    assert not np.allclose(fine, world.simulate(theta, seed=6))


@needs_data
def test_sky_is_lognormal(world):
    """Averaged over noise the brightest parts reach farther than the darkest, which stop at -lambda."""
    maps = Convergence(32).simulate([[0.3, 0.8]] * 30, seed=3)
    skewness = ((maps - maps.mean()) ** 3).mean() / maps.std() ** 3
    assert skewness > 0.2
    assert 0.01 < world.shift([[0.3, 0.8]])[0] < 0.05


def test_noise_has_unit_wavelet_coefficients():
    noise = NOISE * np.random.default_rng(0).normal(size=(20, 1, SIZE, SIZE))
    counts = wavelet_counts(noise, scales=3, bins=14).reshape(20, 3, 14).mean(0)
    assert counts.sum(1) == pytest.approx(np.ones(3))
    # Shares of a unit Gaussian within the middle two bins, of width 3/7, 4.5/7 and 6/7.
    for scale, share in enumerate((0.3317, 0.4797, 0.6086)):
        assert counts[scale, 6:8].sum() == pytest.approx(share, abs=0.02)


def test_white_noise_has_flat_power():
    power = power_spectrum(np.random.default_rng(0).normal(size=(50, 1, 64, 64)))
    assert np.exp(power).mean(0) / 64**2 == pytest.approx(np.ones(power.shape[1]), rel=0.15)


def test_power_grows_with_structure_and_matter():
    little, much = convergence_power([200.0, 2000.0], 0.25, [0.7, 0.9])
    assert (much > 1.5 * little).all()
    assert (convergence_power([200.0, 2000.0], 0.35, 0.9)[0] > much).all()
