import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.lensing.surveys import point_depth, survey, surveys


def test_depths_are_those_that_were_published():
    """A point source at the stated depth is measured at five sigma in its PSF; apertures of other papers agree."""
    known = surveys()
    assert set(known) == {"lsst", "euclid", "des", "cfhtls", "hsc", "hst"}
    for one in known.values():
        sky, _ = one.pixel_noise()
        for k, band in enumerate(one.bands):
            sigma = one.fwhm[k] / one.pixel / 2.3548
            five = 5 * np.sqrt(sky[k] * 4 * np.pi * sigma**2)
            assert 31.4 - 2.5 * np.log10(five) == pytest.approx(one.noise.limit(band, 5.0), abs=0.01)
    # Ten years of LSST: 27.4, 27.5 and 26.8 (Ivezic et al. 2019, table 1, at zenith; here at airmass 1.2).
    depth = [known["lsst"].noise.limit(b, 5.0) for b in "gri"]
    assert np.abs(np.array(depth) - [27.4, 27.5, 26.8]).max() < 0.4
    assert known["hsc"].depth == pytest.approx(26.2, abs=0.02)
    # DES: 5 sigma in its aperture is 0.75 mag fainter than the 10 sigma that are stated.
    noise = np.sqrt(known["des"].pixel_noise()[0][2] * np.pi * (1.95 / 2 / 0.263) ** 2)
    assert 31.4 - 2.5 * np.log10(10 * noise) == pytest.approx(23.8, abs=0.02)


def test_an_aperture_of_the_area_of_a_psf_has_its_depth():
    fwhm = 0.9
    diameter = 4 * fwhm / 2.3548  # pi d^2 / 4 = 4 pi sigma^2
    assert point_depth(25.0, snr=5, diameter=diameter, fwhm=fwhm) == pytest.approx(25.0, abs=1e-4)
    assert point_depth(25.0, snr=10, diameter=diameter, fwhm=fwhm) == pytest.approx(25.7526, abs=1e-4)


def test_names():
    assert survey("des") is surveys()["des"] and survey(surveys()["hsc"]) is surveys()["hsc"]
    with pytest.raises(DeepfieldError, match="no survey 'sdss' to simulate lenses in: choose from lsst, euclid"):
        survey("sdss")
