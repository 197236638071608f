import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.morphology.simulate import KINDS, draw, paint, simulate, surveys
from deepfield.physics import photometry as ph

SDSS = surveys()["sdss"]


def galaxies(n, seed=0, kind=None, **values):
    table = draw(4 * n * len(KINDS), np.random.default_rng(seed), SDSS)
    if kind is not None:
        table = table[np.asarray(table["kind"]) == kind]
    table = table[:n].copy()
    for name, value in values.items():
        table[name] = np.full(len(table), float(value))
    return table


def painted(table, size=64, survey=SDSS, **options):
    return torch.cat(list(paint(table, survey, size=size, noise=False, **options))).double()


def grid(size=64):
    """Coordinates of pixel centres about the middle: x to the right, y up."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return axis[None, :], -axis[:, None]


def test_images_hold_the_flux_that_the_magnitudes_say():
    table = galaxies(60)
    image = painted(table)
    for b, band in enumerate(SDSS.bands):
        ratio = image[:, b].sum((1, 2)).numpy() / ph.flux(table.column(f"mag_{band}"))
        assert ratio.min() > 0.75 and ratio.max() < 1.01  # de Vaucouleurs wings and companions leave the stamp
        assert ratio[np.asarray(table["kind"]) == "spiral"].min() > 0.95
    # With twice the sky around them the same galaxies lose less.
    wide = painted(table, size=128)[:, 1].sum((1, 2)).numpy() / ph.flux(table.column("mag_r"))
    assert wide.min() > 0.9


def test_centres_and_angles_are_where_the_table_says():
    table = galaxies(30, kind="edge-on", x=1.5, y=-2.0, bulge_fraction=0.02, disc_radius=2.5)
    image = painted(table)[:, 1]
    x, y = grid()
    light = image / image.sum((1, 2), keepdim=True)
    cx, cy = (light * x).sum((1, 2)), (light * y).sum((1, 2))
    assert float((cx - 1.5).abs().max()) < 0.05 and float((cy + 2.0).abs().max()) < 0.05
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    xx, yy, xy = ((light * part).sum((1, 2)) for part in (dx * dx, dy * dy, dx * dy))
    angle = np.degrees(0.5 * torch.atan2(2 * xy, xx - yy).numpy()) % 180
    off = (angle - table.column("angle") + 90) % 180 - 90
    assert np.abs(off).max() < 1.0


def spirals(n=24, **values):
    face_on = {
        "disc_radius": 5.0,
        "disc_q": 1.0,
        "bulge_fraction": 0.05,
        "bar_strength": 0.0,
        "arms": 2,
        "arm_strength": 0.8,
    }
    return galaxies(n, kind="spiral", x=0.0, y=0.0, seeing=1.0, **{**face_on, **values})


def test_arms_wind_outward_the_way_the_table_says():
    table = spirals(pitch=20.0)
    image = painted(table)[:, 1]
    x, y = grid()
    r, theta = torch.hypot(x, y), torch.atan2(y, x).expand(64, 64)
    phases = []
    for radius in (10.0, 14.0):
        ring = torch.exp(-0.5 * ((r - radius) / 0.7) ** 2)
        wave = (image * ring * torch.exp(-2j * theta)).sum((1, 2))
        phases.append(-torch.angle(wave) / 2)  # of the ridge, modulo half a turn
    turned = ((phases[1] - phases[0] + math.pi / 2) % math.pi - math.pi / 2).numpy()
    expected = table.column("winding") * math.log(1.4) / math.tan(math.radians(20))
    assert np.abs(np.abs(turned) - np.abs(expected)).max() < 0.1
    assert (np.sign(turned) == table.column("winding")).all() and set(table["winding"]) == {-1, 1}


def test_arms_add_no_light_and_bars_lie_along_their_angle():
    size = {"disc_radius": 2.5, "pitch": 25.0}
    with_arms, without = painted(spirals(**size))[:, 1], painted(spirals(**size, arms=0, arm_strength=0))[:, 1]
    assert torch.allclose(
        with_arms.sum((1, 2)), without.sum((1, 2)), rtol=1e-2
    )  # arms are sampled, not integrated
    assert bool(((with_arms - without).abs().amax((1, 2)) > 0.05 * without.amax((1, 2))).all())
    bar = spirals(arms=0, bar_strength=0.3, angle=0.0)
    light = painted(bar)[:, 1] - painted(spirals(arms=0, angle=0.0))[:, 1]
    x, y = grid()
    wave = (light * (x * x + y * y) * torch.exp(2j * torch.atan2(y, x))).sum((1, 2))
    off = np.degrees(torch.angle(wave).numpy() / 2) - bar.column("bar_angle")
    assert np.abs((off + 90) % 180 - 90).max() < 1.0


def test_a_mirrored_galaxy_is_the_mirror_image():
    table = galaxies(60)
    table = table[np.asarray(table["kind"]) != "merger"]
    mirrored = table.copy()
    for name in ("angle", "winding", "x"):
        mirrored[name] = -table[name]
    for name in ("arm_phase", "bar_angle"):  # the major axis now points the other way
        mirrored[name] = 180 - table[name]
    image, other = painted(table), painted(mirrored)
    assert float((other.flip(-1) - image).abs().max() / image.max()) < 1e-4
    assert float((other - image).abs().max() / image.max()) > 0.1


def test_noise_has_the_variance_it_should_and_follows_the_seed():
    table = galaxies(64, mag_g=40.0, mag_r=40.0, mag_i=40.0)
    noisy = torch.cat(list(paint(table, SDSS, seed=5)))
    measured = noisy.double().var((0, 2, 3)).numpy()
    assert np.allclose(measured, SDSS.pixel_noise()[0], rtol=0.02)
    assert torch.equal(noisy, torch.cat(list(paint(table, SDSS, seed=5))))
    assert not torch.equal(noisy, torch.cat(list(paint(table, SDSS, seed=6))))


def test_mergers_have_two_centres():
    table = galaxies(20, kind="merger", companion=0.45, companion_x=5.0, companion_y=3.0, x=0.0, y=0.0)
    image = painted(table)[:, 1]
    column, row = round(31.5 + 5 / SDSS.pixel), round(31.5 - 3 / SDSS.pixel)
    there = image[:, row - 1 : row + 2, column - 1 : column + 2].mean((1, 2))
    opposite = image[:, 63 - row - 1 : 63 - row + 2, 63 - column - 1 : 63 - column + 2].mean((1, 2))
    assert bool((there > 2 * opposite).all())


def test_simulated_sets_are_whole_and_reproducible():
    s = simulate(40, seed=3, tree_name="gz2", size=48, survey="lsst")
    again = simulate(40, seed=3, tree_name="gz2", size=48, survey="lsst")
    assert torch.equal(s.images, again.images) and s.table.digest() == again.table.digest()
    assert s.images.shape == (40, 3, 48, 48) and s.images.dtype == torch.float32
    assert bool(torch.isfinite(s.images).all()) and np.isfinite(s.concentrations).all()
    assert np.array_equal(s.table.column("bar_yes"), s.votes[:, s.tree.columns.index("bar_yes")])
    assert not torch.equal(simulate(40, seed=4, size=48).images, s.images)
    assert set(np.unique(s.table["kind"])) <= set(KINDS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": 5, "size": 33}, "even and at least 32, got 5, 40 and 33"),
        ({"n": 5, "voters": 0}, "at least 1"),
        ({"n": 5, "survey": "euclid"}, "cannot simulate survey 'euclid': choose from sdss, lsst"),
        ({"n": 5, "tree_name": "gz9"}, "no tree 'gz9'"),
    ],
)
def test_settings_that_make_no_sense(options, said):
    with pytest.raises(DeepfieldError, match=said):
        simulate(**options)


def test_images_of_a_table_of_ones_own():
    table = Table({name: [value] for name, value in {**dict(galaxies(1)[0])}.items()})
    assert next(iter(paint(table, "sdss", size=32))).shape == (1, 3, 32, 32)
