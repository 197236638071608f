import json
import math

import numpy as np
import pytest
from astropy.cosmology import Planck18

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import (
    Lens,
    Sersic,
    System,
    epl,
    nfw,
    point_mass,
    read_coolest,
    shear,
    sheet,
    sie,
    write_coolest,
)


def system():
    lens = Lens(
        sie(1.2, 0.8, 2.5, x=0.1), epl(0.3, 0.6, -0.4, 1.8, x=1.0, y=-0.5), shear(0.05, 1.0), sheet(kappa=0.02)
    )
    light = (Sersic(5.0, 0.9, n=4.0, q=0.7, phi=0.3), Sersic(2.0, 1.5))
    return System(lens, 0.4, 1.7, light, (Sersic(0.3, 0.2, n=1.0, q=0.5, phi=-1.0, x=0.05, y=0.1),))


@pytest.mark.parametrize("name", ["coolest.json", "coolest_pyAPI.json"])
def test_a_file_of_the_standards_own_package(here, name):
    """Written by coolest, which also computed these values (benchmarks/lensing_coolest.py)."""
    truth = json.loads((here / "coolest_values.json").read_text())
    found = read_coolest(here / name)
    assert (found.z_lens, found.z_source, float(found.cosmo.Om0)) == (0.5, 2.0, 0.3)
    assert [d.kind for d in found.lens.deflectors] == ["sheet", "sheet", "epl", "epl"]
    x, y = np.array(truth["x"]), np.array(truth["y"])
    for ours, theirs in zip(found.lens.deflection(x, y), ("alpha_x", "alpha_y")):
        np.testing.assert_allclose(ours, truth[theirs], rtol=1e-13)
    np.testing.assert_allclose(found.lens_light[0].brightness(x, y), truth["lens_light"], rtol=1e-11)
    np.testing.assert_allclose(found.source[0].brightness(x, y), truth["source_light"], rtol=1e-11)


def test_what_is_written_comes_back(tmp_path):
    one = system()
    write_coolest(one, tmp_path / "lens.json")
    two = read_coolest(tmp_path / "lens.json")
    assert (two.z_lens, two.z_source) == (0.4, 1.7)
    x, y = np.random.default_rng(0).uniform(-2, 2, (2, 20))
    for a, b in zip(one.lens.deflection(x, y), two.lens.deflection(x, y)):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
    assert len(two.lens_light) == 2 and len(two.source) == 1
    for a, b in zip((*one.lens_light, *one.source), (*two.lens_light, *two.source)):
        np.testing.assert_allclose(a.brightness(x, y), b.brightness(x, y), rtol=1e-11)
        assert float(a.flux) == pytest.approx(float(b.flux), rel=1e-12)


def test_conventions_are_those_of_the_standard(tmp_path):
    write_coolest(
        System(Lens(sie(1.0, 0.5, math.radians(30))), 0.5, 2.0, (Sersic(1.0, 0.8, q=0.25),)), tmp_path / "a.json"
    )
    content = json.loads((tmp_path / "a.json").read_text())
    lens = content["lensing_entities"][0]
    assert content["standard"] == "COOLEST" and content["mode"] == "MOCK"
    phi = lens["mass_model"][0]["parameters"]["phi"]["point_estimate"]["value"]
    assert phi == pytest.approx(30 - 90)  # from the y axis, in (-90, 90]
    light = {k: v["point_estimate"]["value"] for k, v in lens["light_model"][0]["parameters"].items()}
    assert light["phi"] == 90.0
    # Half the major axis' radius, but for the standard's approximate b_n (1.6721 in place of 1.6783 at n = 1).
    assert light["theta_eff"] == pytest.approx(0.4 * 1.6721 / 1.678347, rel=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lens": Lens(point_mass(1.0))}, "cannot hold a deflector of the kind 'point': only SIE, PEMD"),
        ({"lens": Lens(nfw(0.1, 5.0))}, "cannot hold a deflector of the kind 'nfw'"),
        ({"lens": Lens(sheet(gamma1=0.1, x=1.0))}, "external fields of COOLEST are about the origin"),
        ({"lens": Lens(sie([1.0, 2.0], 0.5, 0.0))}, "holds one lens, but theta_E of SIE has 2 values"),
        ({"cosmo": Planck18.clone(name="x", m_nu=0)}, None),
    ],
)
def test_what_the_standard_has_no_words_for(tmp_path, change, message):
    given = {"lens": Lens(sie(1.0, 0.5, 0.0)), "z_lens": 0.5, "z_source": 2.0, **change}
    path = tmp_path / "x.json"
    if message is None:
        write_coolest(System(**given), path)
        assert float(read_coolest(path).cosmo.Om0) == pytest.approx(float(Planck18.Om0))
        return
    with pytest.raises(DeepfieldError, match=message):
        write_coolest(System(**given), path)
    assert not path.exists()


def test_cosmologies_that_are_not_flat(tmp_path):
    from astropy.cosmology import w0waCDM

    space = w0waCDM(H0=70, Om0=0.3, Ode0=0.7, w0=-0.9)
    with pytest.raises(DeepfieldError, match="flat LCDM cosmologies only, not w0waCDM"):
        write_coolest(System(Lens(sie(1.0, 0.5, 0.0)), 0.5, 2.0, cosmo=space), tmp_path / "x.json")


def test_source_in_front_of_the_lens():
    with pytest.raises(DeepfieldError, match="source must lie behind the lens"):
        System(Lens(sie(1.0, 0.5, 0.0)), 2.0, 0.5)


def edited(here, tmp_path, edit):
    content = json.loads((here / "coolest.json").read_text())
    edit(content)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content))
    return path


def entity(number, **change):
    return lambda c: c["lensing_entities"][number].update(change)


def profile(model, **change):
    return lambda c: c["lensing_entities"][1][model][0].update(change)


def q_of_the_lens(value):
    def edit(content):
        parameters = content["lensing_entities"][1]["mass_model"][0]["parameters"]
        if value == "gone":
            del parameters["q"]
        else:
            parameters["q"]["point_estimate"]["value"] = value

    return edit


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda c: c.pop("lensing_entities"), "is no COOLEST template: KeyError 'lensing_entities'"),
        (profile("mass_model", type="Chameleon"), "'Chameleon' is not known here: only SIE"),
        (profile("light_model", type="Shapelets"), "'Shapelets' is not known here: only Sersic"),
        (entity(1, redshift=0.6), r"lenses at the redshifts \[0.5, 0.6\]: one is needed"),
        (entity(3, redshift=0.2), "source must lie behind the lens"),
        (q_of_the_lens(1.5), r"q lies in \(0, 1\], got 1.5"),
        (q_of_the_lens("round"), "is no COOLEST template: ValueError could not convert"),
        (q_of_the_lens(None), "PEMD has no point estimate of 'q'"),
        (q_of_the_lens("gone"), "is no COOLEST template: KeyError 'q'"),
    ],
)
def test_files_that_cannot_be_read(here, tmp_path, edit, message):
    with pytest.raises(DeepfieldError, match=message):
        read_coolest(edited(here, tmp_path, edit))


def test_files_that_are_no_json(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeepfieldError, match="is no COOLEST template"):
        read_coolest(tmp_path / "x.json")
    with pytest.raises(DeepfieldError, match=r"none\.json' cannot be read: No such file"):
        read_coolest(tmp_path / "none.json")
    (tmp_path / "y.json").write_text("[1, 2]")
    with pytest.raises(DeepfieldError, match="is no COOLEST template"):
        read_coolest(tmp_path / "y.json")
