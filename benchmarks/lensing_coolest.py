"""A lens system written and evaluated by the Python package of COOLEST, as a reference for the tests.

    PYTHONPATH=src venv-lens/bin/python benchmarks/lensing_coolest.py --write

(lensing_reference.py says how to make the environment; coolest.api also wants pandas and getdist.) Prints how far
deepfield is from it, in files of the package and in files of its own that the package reads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from coolest.api.composable_models import ComposableLightModel, ComposableMassModel
from coolest.template.classes.instrument import Instrument
from coolest.template.classes.parameter import PointEstimate
from coolest.template.json import JSONSerializer
from coolest.template.lazy import (
    CoordinatesOrigin,
    Cosmology,
    Galaxy,
    LensingEntityList,
    LightModel,
    MassField,
    MassModel,
    Observation,
    PixelatedRegularGrid,
)
from coolest.template.standard import COOLEST

from deepfield.core.files import atomic
from deepfield.lensing import read_coolest, write_coolest

HERE = Path(__file__).parents[1] / "tests" / "lensing"
X = np.array([[0.3, -0.7, 2.1], [1.2, 0.4, -1.9]])
Y = np.array([[0.9, 0.2, -0.4], [-0.5, 1.3, -1.7]])


def template() -> COOLEST:
    lens = Galaxy("lens", 0.5, mass_model=MassModel("PEMD"), light_model=LightModel("Sersic"))
    second = Galaxy("neighbour", 0.5, mass_model=MassModel("PEMD"))
    source = Galaxy("source", 2.0, light_model=LightModel("Sersic"))
    field = MassField("field", 0.5, mass_model=MassModel("ExternalShear", "ConvergenceSheet"))
    place = {"center_x": 0.05, "center_y": -0.03}
    shape = {"q": 0.7, "phi": -20.0, **place}
    beside = {"center_x": 1.5, "center_y": 0.7}
    values = [
        (lens.mass_model[0], {"gamma": 2.1, "theta_E": 1.3, **shape}),
        (second.mass_model[0], {"gamma": 2.0, "theta_E": 0.3, "q": 0.9, "phi": 90.0, **beside}),
        (field.mass_model[0], {"gamma_ext": 0.05, "phi_ext": 30.0}),
        (field.mass_model[1], {"kappa_s": 0.02}),
        (lens.light_model[0], {"I_eff": 3.0, "theta_eff": 0.8, "n": 4.0, **shape}),
        (source.light_model[0], {"I_eff": 1.0, "theta_eff": 0.2, "n": 1.0, "q": 0.6, "phi": 50.0, **place}),
    ]
    for profile, parameters in values:
        for name, value in parameters.items():
            profile.parameters[name].set_point_estimate(PointEstimate(value=value))
    observation = Observation(
        pixels=PixelatedRegularGrid(field_of_view_x=(0, 60), field_of_view_y=(0, 60), num_pix_x=60, num_pix_y=60)
    )
    return COOLEST(
        "MOCK", CoordinatesOrigin("0h0m0.0s", "0d0m0.0s"), LensingEntityList(field, lens, second, source),
        observation, Instrument(1.0), Cosmology(H0=70.0, Om0=0.3),
    )  # fmt: skip


def evaluate(content: COOLEST, folder: str) -> dict[str, np.ndarray]:
    entities = range(len(content.lensing_entities))
    masses = [k for k in entities if len(getattr(content.lensing_entities[k], "mass_model", []))]
    lights = [k for k in entities if len(getattr(content.lensing_entities[k], "light_model", []))]
    ax, ay = ComposableMassModel(content, folder, entity_selection=masses).evaluate_deflection(X, Y)
    light = [
        ComposableLightModel(content, folder, entity_selection=[k]).evaluate_surface_brightness(X, Y)
        for k in lights
    ]
    return {"alpha_x": ax, "alpha_y": ay, "lens_light": light[0], "source_light": light[1]}


def ours(path: Path) -> dict[str, np.ndarray]:
    system = read_coolest(path)
    ax, ay = system.lens.deflection(X, Y)
    lights = (system.lens_light[0].brightness(X, Y), system.source[0].brightness(X, Y))
    return {k: v.numpy() for k, v in zip(("alpha_x", "alpha_y", "lens_light", "source_light"), (ax, ay, *lights))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "theirs"
        serializer = JSONSerializer(str(theirs), obj=template())
        serializer.dump_simple()
        serializer.dump_jsonpickle()
        values = evaluate(template(), folder)
        again = Path(folder) / "again.json"
        write_coolest(read_coolest(theirs.with_suffix(".json")), again)
        back = JSONSerializer(str(again)[:-5], check_external_files=False).load(verbose=False)
        for name, found in (
            ("their file, read here", ours(theirs.with_suffix(".json"))),
            ("their file, with classes", ours(theirs.with_name("theirs_pyAPI.json"))),
            ("our file, read there", evaluate(back, folder)),
        ):
            print(f"{name:26}", *[f"{k} {np.max(np.abs(found[k] / v - 1)):.1e}" for k, v in values.items()])
        if write:
            reference = {"coolest": metadata.version("coolest"), "x": X.tolist(), "y": Y.tolist()}
            reference |= {k: v.tolist() for k, v in values.items()}
            with atomic(HERE / "coolest_values.json") as temporary:
                temporary.write_text(json.dumps(reference, indent=1) + "\n")
            for suffix in (".json", "_pyAPI.json"):
                with atomic(HERE / f"coolest{suffix}") as temporary:
                    content = json.loads(theirs.with_name(f"theirs{suffix}").read_text())
                    temporary.write_text(json.dumps(_short(content), indent=1) + "\n")


def _short(node: object) -> object:
    """Without the package's own documentation of itself."""
    if isinstance(node, dict):
        return {k: _short(v) for k, v in node.items() if k not in ("documentation", "latex_str", "prior")}
    return [_short(v) for v in node] if isinstance(node, list) else node


if __name__ == "__main__":
    main()
