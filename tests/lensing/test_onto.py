import astropy.units as u
import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.data.images.read import read
from deepfield.lensing import onto
from deepfield.lensing.onto import paint_onto
from deepfield.lensing.simulate import draw, paint
from deepfield.lensing.surveys import surveys
from deepfield.physics import lensing as physics

LSST = surveys()["lsst"]


@pytest.fixture(scope="module")
def galaxies():
    """Deflectors, without what they bend."""
    table = draw(60, survey=LSST, seed=7, lens_fraction=1.0)
    table["layer"] = np.zeros(60)
    return table, torch.cat(list(paint(table, LSST, seed=7)))


def test_arcs_are_added_in_the_cutouts_own_units(galaxies):
    _, images = galaxies
    zero = (27.0, 28.0, 29.0)
    scale = torch.tensor([10 ** (0.4 * (z - 31.4)) for z in zero])[:, None, None]
    counts = (images * scale).double()
    before = counts.clone()
    made = paint_onto(counts, zero_point=zero, seed=1)
    assert torch.equal(counts, before) and made.images.dtype == torch.float64
    arcs = (made.images - counts) / scale  # nJy
    for b, band in enumerate(LSST.bands):
        flux = arcs[:, b].sum((1, 2)).numpy()
        expected = (
            3631e9 * 10 ** (-0.4 * made.table.column(f"source_mag_{band}")) * made.table.column("magnification")
        )
        assert np.median(flux / expected) == pytest.approx(1.0, abs=0.12)
    line = (torch.arange(64) - 31.5) * LSST.pixel
    light = arcs[:, 1].clamp_min(0)
    x = line - torch.tensor(made.table["x"])[:, None, None]
    y = -line[:, None] - torch.tensor(made.table["y"])[:, None, None]
    radius = ((light * torch.hypot(x, y)).sum((1, 2)) / light.sum((1, 2))).numpy()
    # Seeing as wide as the rings are moves light outwards.
    assert np.median(radius / made.table.column("theta_e")) == pytest.approx(1.3, abs=0.25)
    assert np.median(made.table.column("source_snr")) > 15


def test_the_deflector_is_the_galaxy(galaxies):
    table, images = galaxies
    z = table.column("z_lens")
    made = paint_onto(images, magnitude=table.column("lens_mag_i"), redshift=z, seed=2).table
    assert np.median(np.abs(made.column("z_lens") - z)) < 0.05
    # A brighter galaxy at a redshift has a larger dispersion, to what that relation scatters.
    alone = (made.column("group") == 1) & (table.column("group") == 1)
    assert np.corrcoef(made.column("sigma_v")[alone], table.column("sigma_v")[alone])[0, 1] > 0.35
    exact = physics.isothermal_radius(made.column("sigma_v"), made.column("z_lens"), made.column("z_source"))
    assert np.abs(made.column("theta_e") / exact - 1).max() < 1e-3
    flat = table.column("lens_q") < 0.7
    off = (made.column("phi") - table.column("lens_phi") + 90) % 180 - 90
    assert np.median(np.abs(off[flat])) < 15
    # A bright neighbour may pull the centre of one.
    assert np.quantile(np.abs(made.column("x") - table.column("x")), 0.95) < 0.15


def test_some_stay_as_they_are(galaxies):
    _, images = galaxies
    made = paint_onto(images, lens_fraction=0.25, seed=3)
    lens = np.asarray(made.table["is_lens"]) == 1
    assert lens.sum() == round(0.25 * len(images)) and set(made.table["kind"][~lens]) == {"cutout"}
    assert torch.equal(made.images[~torch.tensor(lens)], images[~torch.tensor(lens)])
    assert (
        np.isnan(made.table.column("theta_e")[~lens]).all()
        and np.isfinite(made.table.column("theta_e")[lens]).all()
    )
    again = paint_onto(images, lens_fraction=0.25, seed=3)
    assert torch.equal(again.images, made.images) and again.table.digest() == made.table.digest()
    assert not torch.equal(paint_onto(images, lens_fraction=0.25, seed=4).images, made.images)


def test_other_pixels_and_seeing():
    blank = np.zeros((3, 1, 48, 48), dtype=np.float32)
    made = paint_onto(blank, survey="euclid", pixel=0.2, psf_fwhm=(0.5,), magnitude=np.full(3, 20.0), seed=0)
    assert made.survey.pixel == 0.2 and made.images.shape == (3, 1, 48, 48)
    assert float(made.images.amax()) > 0 and made.table.column("theta_e").max() < 0.36 * 48 * 0.2


def test_magnitudes_within_an_aperture_are_compared_with_the_same(galaxies):
    table, images = galaxies
    total = table.column("lens_mag_i")
    alone = table.column("group") == 1
    seen = onto._measured(images.double(), LSST)["mag"]
    inside = onto._within(2 * LSST.sharpest, table.column("bulge_radius") * np.sqrt(table.column("lens_q")), LSST)
    assert np.median((seen - total)[alone]) > 0.2
    assert np.median((seen + 2.5 * np.log10(inside) - total)[alone]) == pytest.approx(0, abs=0.1)
    assert onto._within(1.6, np.array([1e-3]), LSST)[0] == pytest.approx(
        1 - (1 + 4 * 4 * (2 ** (1 / 3.5) - 1)) ** -2.5, abs=0.01
    )


def test_photons_of_the_galaxy_are_noise_too():
    line = torch.arange(64) - 31.5
    light = torch.exp(-(line**2 + line[:, None] ** 2) / 60).expand(4, 3, 64, 64)
    sky = 3 * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = {"magnitude": np.full(4, 20.0), "redshift": np.full(4, 0.5), "seed": 1}
    faint, bright = (paint_onto(sky + 100 + f * light, **given).table.column("source_snr") for f in (1e3, 1e6))
    assert (bright < 0.7 * faint).all()


def test_broken_cutouts_are_no_lenses(galaxies, caplog):
    images = galaxies[1][:3].clone()
    images[0] = torch.nan
    images[1, 0, 5, 5] = torch.inf
    made = paint_onto(images, seed=1)
    assert made.table["is_lens"].tolist() == [0, 0, 1] and "2 of 3 cutouts have pixels" in caplog.text
    assert torch.equal(made.images[1], images[1]) and np.isnan(made.table["source_snr"][:2]).all()
    assert not np.asarray(paint_onto(images, lens_fraction=0.0).table["is_lens"]).any()


def test_files_in_and_out(galaxies, tmp_path):
    given = galaxies[1][:4].numpy()
    made = paint_onto(read(given, bands=LSST.bands), seed=1)
    assert torch.equal(made.images, paint_onto(given, seed=1).images)
    made.write(tmp_path / "painted.hdf5")
    again = read(tmp_path / "painted.hdf5")
    assert again.bands == LSST.bands and torch.equal(again.load()[0], made.images)
    assert np.array_equal(again.table["theta_e"], made.table["theta_e"])
    with pytest.raises(DeepfieldError, match="the cutouts are in i, r, g, the survey in g, r, i"):
        paint_onto(read(given, bands=LSST.bands[::-1]))
    with pytest.raises(DeepfieldError, match="the cutouts are pictures"):
        paint_onto(read(np.zeros((2, 3, 64, 64), np.uint8), bands=LSST.bands))
    assert paint_onto(read(given, bands=LSST.bands, pixel_scale=0.25)).survey.pixel == 0.25
    assert repr(made) == "4 simulated images of 64 x 64 pixels in g, r, i"


def test_galaxies_unlike_any_deflector_are_counted(galaxies, caplog):
    paint_onto(galaxies[1][:8], seed=1)
    assert "unlike any deflector" not in caplog.text
    paint_onto(galaxies[1][:8] * 1e-6, seed=1)
    assert "8 of 8 cutouts are unlike any deflector" in caplog.text


@pytest.mark.parametrize(
    "cutouts, options, said",
    [
        (np.zeros((2, 3, 64, 64)), {"lens_fraction": 1.2}, "between 0 and 1, got 1.2"),
        (np.zeros((2, 3, 64, 64)), {"lens_fraction": -0.1}, "between 0 and 1, got -0.1"),
        (
            np.zeros((2, 2, 64, 64)),
            {},
            r"\(N, 3, S, S\) .* for the bands g, r, i, got \(2, 2, 64, 64\)",
        ),
        (np.zeros((2, 3, 64, 60)), {}, r"got \(2, 3, 64, 60\)"),
        (np.ones((2, 3, 64, 64)), {"redshift": [0.3]}, "one for each of 2 cutouts"),
        (np.ones((2, 3, 64, 64)), {"redshift": [0.3, -1.0]}, "redshifts are positive, got -1"),
        ("cutouts.fits", {}, "not the name of a file"),
        (np.ones((2, 3, 64, 64)) * u.uJy, {}, "not a Quantity"),
        (np.ones((2, 3, 64, 64)), {"psf_fwhm": (0.8,)}, "one number for each of 3 bands, got 1"),
    ],
)
def test_cutouts_that_do_not_fit(cutouts, options, said):
    with pytest.raises(DeepfieldError, match=said):
        paint_onto(cutouts, **options)
