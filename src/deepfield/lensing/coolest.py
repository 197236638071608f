"""Lens systems in COOLEST, the JSON standard for strong lenses (Galan et al. 2023, JOSS 8, 5567).

Conventions of the standard differ from ours: position angles are degrees from the y axis anticlockwise, radii of
light are sqrt(major * minor) where ours are along the major axis, and a Sersic profile has b_n = 1.9992 n - 0.3271
and its surface brightness (here units of flux per arcsec^2) at the radius that goes with it. All is converted so
that the light at each point is the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.lensing.lens import Deflector, Lens, epl, sheet, sie
from deepfield.lensing.light import Sersic
from deepfield.physics import galaxies as ga
from deepfield.physics.cosmology import cosmology
from deepfield.physics.lensing import distances

Node = dict[str, Any]
_MASSES = "SIE, PEMD, ExternalShear, ConvergenceSheet"


@dataclass(frozen=True)
class System:
    """A lens, its light, and a source behind it.

    Parameters
    ----------
    lens : Lens
        One lens, not a batch.
    z_lens, z_source : float
    lens_light, source : tuple of Sersic
        Light in the plane of the lens, and of the source as it would be seen without the lens.
    cosmo : astropy FlatLambdaCDM, optional

    Raises
    ------
    DeepfieldError
        If the source is not behind the lens.
    """

    lens: Lens
    z_lens: float
    z_source: float
    lens_light: tuple[Sersic, ...] = ()
    source: tuple[Sersic, ...] = ()
    cosmo: Any = None

    def __post_init__(self) -> None:
        distances(self.z_lens, self.z_source, self.cosmo)


def write_coolest(system: System, path: str | os.PathLike[str]) -> None:
    """Write a system as a COOLEST template (``mode`` MOCK, no observation).

    Raises
    ------
    DeepfieldError
        If the standard has no words for it: a point mass, an NFW halo (the units of its density are not fixed),
        shear about another point than the origin, a cosmology other than flat LCDM, a batch.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lens.json"
    >>> write_coolest(System(Lens(sie(1.2, 0.8, 0.3)), 0.5, 2.0), path)
    >>> round(float(read_coolest(path).lens.deflectors[0].parameters["phi"]), 12)
    0.3
    """
    fields: list[Node] = []
    masses: list[Node] = []
    for d in system.lens.deflectors:
        (fields if d.kind == "sheet" else masses).extend(_profiles(d))
    space = cosmology(system.cosmo)
    if type(space).__name__ != "FlatLambdaCDM":
        raise DeepfieldError(f"COOLEST knows flat LCDM cosmologies only, not {type(space).__name__}")
    entities: list[Node] = []
    if fields:
        entities.append({"type": "MassField", "name": "external field", "mass_model": fields})
    light = [_light(s) for s in system.lens_light]
    entities.append({"type": "Galaxy", "name": "lens", "light_model": light, "mass_model": masses})
    for entity in entities:
        entity["redshift"] = float(system.z_lens)
    source: Node = {"type": "Galaxy", "name": "source", "redshift": float(system.z_source), "mass_model": []}
    source["light_model"] = [_light(s) for s in system.source]
    content: Node = {
        "standard": "COOLEST",
        "mode": "MOCK",
        "meta": {"written by": "deepfield", "I_eff": "units of flux per arcsec^2"},
        "coordinates_origin": {"ra": "0h0m0.0s", "dec": "0d0m0.0s"},
        "cosmology": {"astropy_name": "FlatLambdaCDM", "H0": float(space.H0.value), "Om0": float(space.Om0)},
        "lensing_entities": [*entities, source],
        "observation": {
            "exposure_time": None,
            "mag_sky_brightness": None,
            "mag_zero_point": None,
            "noise": {"type": None},
            "pixels": {
                "field_of_view_x": [0, 0],
                "field_of_view_y": [0, 0],
                "num_pix_x": 0,
                "num_pix_y": 0,
                "fits_file": {"path": None},
            },
        },
        "instrument": {"name": "", "band": "", "pixel_size": 1.0, "readout_noise": 0.0, "psf": {"type": None}},
    }
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_coolest(path: str | os.PathLike[str]) -> System:
    """Read the point estimates of a COOLEST template, plain or written by its Python package (``_pyAPI``).

    Raises
    ------
    DeepfieldError
        If the file is no such template, or holds what is not known here (pixelated profiles, lenses at several
        redshifts), with its name.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        entities = _sequence(content["lensing_entities"])
        masses = [(e, p) for e in entities for p in _sequence(e.get("mass_model", []))]
        lights = [(e, p) for e in entities for p in _sequence(e.get("light_model", []))]
        redshifts = sorted({float(e["redshift"]) for e, _ in masses})
        z_source = max(float(e["redshift"]) for e in entities)
        if len(redshifts) != 1:
            raise DeepfieldError(f"'{path}' has lenses at the redshifts {redshifts}: one is needed")
        system = System(
            Lens(*(_deflector(p) for _, p in masses)),
            redshifts[0],
            z_source,
            tuple(_sersic(p) for e, p in lights if float(e["redshift"]) <= redshifts[0]),
            tuple(_sersic(p) for e, p in lights if float(e["redshift"]) > redshifts[0]),
            _cosmology(content.get("cosmology")),
        )
    except OSError as error:
        raise DeepfieldError(f"'{path}' cannot be read: {error.strerror}") from error
    except DeepfieldError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # no UTF-8, no JSON, no numbers
        raise DeepfieldError(f"'{path}' is no COOLEST template: {type(error).__name__} {error}") from error
    return system


def _sequence(node: Any) -> list[Node]:
    """A list, also as the standard's own package wraps it."""
    return list(node["py/seq"] if isinstance(node, dict) else node)


def _cosmology(node: Node | None) -> Any:
    from astropy.cosmology import FlatLambdaCDM

    return FlatLambdaCDM(H0=float(node["H0"]), Om0=float(node["Om0"])) if node else None


def _values(profile: Node) -> dict[str, float]:
    found = {}
    for name, parameter in profile["parameters"].items():
        value = parameter["point_estimate"]["value"]
        if value is None:
            raise DeepfieldError(f"{profile['type']} has no point estimate of '{name}': write one into the file")
        found[name] = float(value)
    return found


def _deflector(profile: Node) -> Deflector:
    kind = profile["type"]
    if kind not in _MASSES.split(", "):
        raise DeepfieldError(f"the mass profile '{kind}' is not known here: only {_MASSES}")
    v = _values(profile)
    if kind == "ExternalShear":
        double = 2 * _from_north(v["phi_ext"])
        return sheet(gamma1=v["gamma_ext"] * math.cos(double), gamma2=v["gamma_ext"] * math.sin(double))
    if kind == "ConvergenceSheet":
        return sheet(kappa=v["kappa_s"])
    shape = (v["theta_E"], v["q"], _from_north(v["phi"]))
    place = {"x": v["center_x"], "y": v["center_y"]}
    return sie(*shape, **place) if kind == "SIE" else epl(*shape, v["gamma"], **place)


def _sersic(profile: Node) -> Sersic:
    if profile["type"] != "Sersic":
        raise DeepfieldError(f"the light profile '{profile['type']}' is not known here: only Sersic")
    v = _values(profile)
    own, theirs = _own_b(v["n"]), _their_b(v["n"])
    radius = v["theta_eff"] * (own / theirs) ** v["n"] / math.sqrt(v["q"])
    shape = Sersic(1.0, radius, v["n"], v["q"], _from_north(v["phi"]))
    flux = v["I_eff"] * math.exp(theirs) / _central(shape)
    return Sersic(flux, radius, v["n"], v["q"], shape.phi, v["center_x"], v["center_y"])


def _light(light: Sersic) -> Node:
    n = float(light.n)
    own, theirs = _own_b(n), _their_b(n)
    theta = light.r_e * torch.sqrt(light.q) * (theirs / own) ** n
    strength = _central(light) * math.exp(-theirs)
    v = {"I_eff": strength, "theta_eff": theta, "n": n, "q": light.q, "phi": _north(light.phi)}
    return _profile("Sersic", **v, center_x=light.x, center_y=light.y)


def _own_b(n: float) -> float:
    return float(ga.sersic_b(torch.tensor(n, dtype=torch.float64)))


def _their_b(n: float) -> float:
    """Capaccioli (1989), as the standard has it."""
    return 1.9992 * n - 0.3271


def _central(light: Sersic) -> float:
    """Surface brightness in the centre."""
    return float(light.flux / light.q * ga.sersic(torch.zeros_like(light.r_e), light.n, light.r_e))


def _profiles(d: Deflector) -> Iterator[Node]:
    p = d.parameters
    if d.kind == "sheet":
        if float(p["x"]) or float(p["y"]):
            raise DeepfieldError("external fields of COOLEST are about the origin: move it there")
        size = torch.hypot(p["gamma1"], p["gamma2"])
        if float(size):
            phi = 0.5 * torch.atan2(p["gamma2"], p["gamma1"])
            yield _profile("ExternalShear", gamma_ext=size, phi_ext=_north(phi))
        if float(p["kappa"]):
            yield _profile("ConvergenceSheet", kappa_s=p["kappa"])
        return
    if d.kind not in ("sie", "epl"):
        raise DeepfieldError(f"COOLEST cannot hold a deflector of the kind '{d.kind}': only {_MASSES}")
    shape = {"theta_E": p["theta_e"], "q": p["q"], "phi": _north(p["phi"]), "center_x": p["x"], "center_y": p["y"]}
    yield _profile("SIE", **shape) if d.kind == "sie" else _profile("PEMD", gamma=p["slope"], **shape)


def _profile(kind: str, **values: Any) -> Node:
    for name, value in values.items():
        if isinstance(value, Tensor) and value.dim():
            raise DeepfieldError(f"COOLEST holds one lens, but {name} of {kind} has {len(value)} values: take one")
    parameters = {name: {"point_estimate": {"value": float(value)}} for name, value in values.items()}
    return {"type": kind, "parameters": parameters}


def _north(phi: Tensor) -> float:
    """Degrees from the y axis in (-90, 90] of an angle from the x axis in radians."""
    return 90 - (180 - math.degrees(float(phi))) % 180


def _from_north(phi: float) -> float:
    return math.radians((phi + 90) % 180)
