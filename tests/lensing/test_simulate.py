import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.data.images.read import read
from deepfield.lensing.simulate import KINDS, TRUTH, draw, paint, simulate, write
from deepfield.lensing.surveys import surveys
from deepfield.physics import photometry as ph

LSST = surveys()["lsst"]


@pytest.fixture(scope="module")
def simulated():
    return simulate(400, seed=2)


def painted(table, **options):
    return torch.cat(list(paint(table, LSST, noise=False, **options)))


def lenses(n=8, **values):
    table = draw(2 * n, survey=LSST, seed=5, lens_fraction=1.0)[:n].copy()
    table["defect_u"] = np.full(n, np.nan)
    for band in LSST.bands:
        table[f"seeing_{band}"] = np.ones(n)
    for name, value in values.items():
        table[name] = np.broadcast_to(np.asarray(value), (n, *table[name].shape[1:])).astype(float)
    return table


def test_sets_are_whole_and_follow_their_seed(simulated):
    images, table = simulated.images, simulated.table
    assert (
        images.shape == (400, 3, 64, 64) and images.dtype == torch.float32 and bool(torch.isfinite(images).all())
    )
    again = simulate(400, seed=2)
    assert torch.equal(again.images, images) and again.table.digest() == table.digest()
    assert not torch.equal(simulate(400, seed=3).images, images)
    assert set(table["kind"]) <= set(KINDS) and table["is_lens"].sum() == 200
    lens = np.asarray(table["is_lens"]) == 1
    for name in TRUTH:
        column = table.column(name)
        assert np.isfinite(column[lens]).all() and np.isnan(column[~lens]).all(), name
    assert np.nanmin(table["n_images"]) >= 2 and np.nanmedian(table["magnification"]) > 4


def test_images_do_not_depend_on_what_is_painted_with_them(simulated):
    table = draw(400, survey=LSST, seed=2)
    few = next(iter(paint(table, LSST, seed=2)))
    assert torch.equal(few, simulated.images[: len(few)])
    part = torch.cat(list(paint(table[:40], LSST, seed=2)))
    torch.testing.assert_close(part, simulated.images[:40], rtol=1e-4, atol=1e-3)  # to rounding


def test_the_measured_signal_is_about_the_expected_one(simulated):
    """20 is asked for in the best of three bands; the best one for lens and source alone has somewhat less."""
    snr = simulated.table.column("source_snr")
    snr = snr[np.isfinite(snr)]
    assert np.percentile(snr, 5) > 8 and 20 < np.median(snr) < 60


def test_the_arcs_are_where_the_truth_says():
    """Lens minus the same without a source: its flux is the magnified one, at the radius of the ring."""
    table = lenses(6, neighbours=0.0)
    dark = table.copy()
    for band in LSST.bands:
        dark[f"source_mag_{band}"] = np.full(6, np.inf)
    arcs = (painted(table, size=96) - painted(dark, size=96)).double()
    flux = arcs.sum((2, 3)).numpy()
    for b, band in enumerate(LSST.bands):
        expected = ph.flux(table.column(f"source_mag_{band}")) * table.column("magnification")
        assert flux[:, b] == pytest.approx(expected, rel=0.15)  # clumps and arms are bluer
    line = (torch.arange(96) - 47.5) * LSST.pixel
    x, y = line - torch.tensor(table["x"])[:, None, None], -line[:, None] - torch.tensor(table["y"])[:, None, None]
    light = arcs[:, 1] / arcs[:, 1].sum((1, 2), keepdim=True)
    radius = (light * torch.hypot(x, y)).sum((1, 2)).numpy()
    assert radius == pytest.approx(np.hypot(table.column("theta_e"), 0.7 * LSST.sharpest), rel=0.3)
    sky, source = LSST.pixel_noise()
    snr = (arcs[:, 2] ** 2 / (sky[2] + source[2] * painted(table, size=96)[:, 2])).sum((1, 2)).sqrt().numpy()
    assert snr == pytest.approx(table.column("source_snr"), rel=1e-3)


def test_the_lens_and_its_neighbours_have_their_magnitudes():
    table = lenses(4, source_mag_i=40.0)
    alone = table.copy()
    alone["neighbours"] = 0 * table["neighbours"]
    flux = (painted(table, size=128) - painted(alone, size=128))[:, 2].sum((1, 2)).numpy()
    assert flux == pytest.approx(table["neighbours"][..., 7].sum(1), rel=0.1)
    total = painted(alone, size=256)[:, 2].sum((1, 2)).numpy()
    assert total == pytest.approx(ph.flux(table.column("lens_mag_i")), rel=0.12)


def test_noise_is_that_of_the_survey(simulated):
    table = draw(800, survey=LSST, seed=4, lens_fraction=0.0)
    blank = (np.asarray(table["kind"]) == "blank") & np.isnan(table["defect_u"])
    table["resampled"] = np.zeros(800)  # white
    found = torch.cat(list(paint(table, LSST, seed=4)))[blank]
    # A few blank cutouts have faint neighbours: the spread of the quieter half of pixels tells the noise.
    spread = np.diff(np.percentile(found.numpy(), [15.87, 50], axis=(0, 2, 3)), axis=0)[0]
    assert spread == pytest.approx(np.sqrt(LSST.pixel_noise()[0]), rel=0.06)


def test_every_image_has_a_psf_of_its_own():
    table = lenses(6)
    as_drawn = painted(table)
    for name in ("wings", "psf_e1", "psf_e2"):
        for band in LSST.bands:
            assert np.ptp(table[f"{name}_{band}"]) > 0
            table[f"{name}_{band}"] = np.full(6, 0.5 if name == "wings" else 0.0)
    difference = (painted(table) - as_drawn).abs().amax((2, 3)) / as_drawn.amax((2, 3))
    assert bool(((difference > 1e-3) & (difference < 0.2)).all())


@pytest.mark.parametrize("name", ["euclid", "des", "cfhtls", "hsc", "hst"])
def test_every_survey_makes_images(name):
    chosen = surveys()[name]
    s = simulate(6, survey=name, seed=0, size=48)
    assert s.images.shape == (6, len(chosen.bands), 48, 48) and bool(torch.isfinite(s.images).all())


def test_sets_in_files_are_read_with_their_truth(tmp_path, simulated):
    path = tmp_path / "set.hdf5"
    assert write(path, 400, seed=2) == 200
    found = read(path)
    x, reasons = found.load()
    assert torch.equal(x, simulated.images) and not any(reasons)
    assert np.array_equal(found.table["theta_e"], simulated.table["theta_e"], equal_nan=True)
    assert list(found.table["kind"]) == list(simulated.table["kind"])
    with pytest.raises(DeepfieldError, match=r"end it in \.hdf5"):
        write(tmp_path / "set.fits", 5)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"n": 0}, "n is at least 1"),
        ({"n": 5, "lens_fraction": 1.2}, "between 0 and 1 .* got 5, 1.2"),
        ({"n": 5, "size": 33}, "even and at least 32"),
        ({"n": 5, "survey": "sdss"}, "no survey 'sdss'"),
    ],
)
def test_settings_that_make_no_sense(options, said):
    with pytest.raises(DeepfieldError, match=said):
        simulate(**options)


def test_tables_without_the_grain_of_their_noise_are_painted_with_white_noise():
    table = draw(4, survey="lsst", seed=1)
    table.remove_columns(["resampled", "stated"])
    image = torch.cat(list(paint(table, "lsst", seed=1))) - torch.cat(list(paint(table, "lsst", noise=False)))
    assert abs(float((image[..., 1:] * image[..., :-1]).mean() / image.var())) < 0.05
