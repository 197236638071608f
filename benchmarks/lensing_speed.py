"""How fast: images of lenses per second of processor time, beside caustics and lenstronomy.

    PYTHONPATH=src venv-lens/bin/python benchmarks/lensing_speed.py --write    (see lensing_reference.py)

Each code in a process of its own, on one thread, one after the other in one run. The same scene in all three: 64 x
64 pixels, an isothermal ellipsoid with external shear, a Sersic lens and a Sersic source, every lens with
parameters of its own, the same PSF (21 x 21, elliptical, so that it does not separate), Gaussian noise of sky and
photons. One point in a pixel, as the peers do by default. Where light of a margin is scattered into the image
(caustics always, deepfield by default) 84 x 84 pixels are painted; lenstronomy
paints none, and deepfield is shown without it too. caustics runs with torch.vmap; it and deepfield are shown at
the best of four batch sizes. Compiling is not timed. "memory kept" is caustics with the memory setting that
deepfield makes for itself (deepfield.lensing._values.keep_memory). Sersic radii are converted, as the codes have
different b_n and axes, and noiseless images are compared; one of each code is kept for the tests in
tests/lensing/images.npz.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import caustics
import numpy as np
import torch
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity
from torch import Tensor

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.lensing import Lens, Sersic, sheet, sie
from deepfield.lensing._values import keep_memory
from deepfield.lensing.render import Noise, render
from deepfield.physics.galaxies import sersic_b

RESULT = Path(__file__).parent / "results" / "lensing_speed.json"
SIZE, PIXEL, KERNEL = 64, 0.08, 21
SKY, GAIN = 0.02, 500.0
LIGHT = ("flux", "r_e", "n", "q", "phi", "x", "y")
OURS = ("deepfield", "deepfield, compiled", "deepfield, no margin", "deepfield, no margin, compiled")
PEERS = ("caustics", "caustics, memory kept", "lenstronomy")
BATCHES = (4, 32, 128, 512)  # each code at its best
CODES = (*OURS, *PEERS)
NOISE = Noise(SKY, GAIN)
Columns = dict[str, Tensor]


def draw(n: int) -> Columns:
    g = torch.Generator().manual_seed(0)

    def u(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=g)

    p = {"theta_e": u(0.6, 1.5), "q": u(0.5, 0.95), "phi": u(0, 3.1), "x": u(-0.05, 0.05), "y": u(-0.05, 0.05)}
    p |= {"gamma1": u(-0.1, 0.1), "gamma2": u(-0.1, 0.1)}
    for name, r_e, index in (("source", (0.15, 0.4), (0.8, 1.5)), ("lens", (0.4, 1.0), (2.0, 4.0))):
        values = (u(1, 2), u(*r_e), u(*index), u(0.5, 1.0), u(0, 3.1), u(-0.2, 0.2), u(-0.2, 0.2))
        p |= {f"{name}_{k}": v for k, v in zip(LIGHT, values)}
    return p


def psf() -> Tensor:
    line = torch.arange(KERNEL) - KERNEL // 2
    x, y = line[None] * 1.0, -line[:, None] * 1.0
    major, minor = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    kernel = (1 + (major / 2.5) ** 2 + (minor / 1.8) ** 2) ** -2.5
    return kernel / kernel.sum()


def by_deepfield(p: Columns, margin: int | None, *, noise: bool, compiled: bool = False) -> Tensor:
    lens = Lens(
        sie(p["theta_e"], p["q"], p["phi"], x=p["x"], y=p["y"]), sheet(gamma1=p["gamma1"], gamma2=p["gamma2"])
    )
    source, light = (Sersic(**{k: p[f"{name}_{k}"] for k in LIGHT}) for name in ("source", "lens"))
    with torch.no_grad():
        return render(
            lens, [source], [light], size=SIZE, pixel=PIXEL, psf=psf(), margin=margin, compiled=compiled,
            noise=NOISE if noise else None,
        )  # fmt: skip


def in_batches(p: Columns, batch: int, margin: int | None, compiled: bool) -> None:
    for start in range(0, len(p["q"]), batch):
        part = {k: v[start : start + batch] for k, v in p.items()}
        by_deepfield(part, margin, noise=True, compiled=compiled)


def shape(p: Columns, name: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Radius along the major axis, and brightness there per arcsec^2, of the same profile with another b_n."""
    n, r_e = p[f"{name}_n"], p[f"{name}_r_e"]
    radius = r_e * (b / sersic_b(n)) ** n
    light = Sersic(**{k: p[f"{name}_{k}"] for k in LIGHT})
    x = p[f"{name}_x"] + radius * torch.cos(p[f"{name}_phi"])
    y = p[f"{name}_y"] + radius * torch.sin(p[f"{name}_phi"])
    return radius, light.brightness(x, y)


def caustics_runner(p: Columns) -> Callable[[int], Tensor]:
    cosmology = caustics.FlatLambdaCDM()
    place = {"z_l": 0.5, "z_s": 2.0}
    parts = [caustics.SIE(cosmology, **place), caustics.ExternalShear(cosmology, x0=0.0, y0=0.0, **place)]
    lens = caustics.SinglePlane(cosmology, lenses=parts, **place)
    simulator = caustics.LensSource(
        lens=lens, source=caustics.Sersic(), lens_light=caustics.Sersic(), pixelscale=PIXEL, pixels_x=SIZE,
        psf=psf().flip(0), psf_shape=(KERNEL, KERNEL), x0=0.0, y0=0.0,
    )  # fmt: skip
    columns = [p[k] for k in ("x", "y", "q", "phi", "theta_e", "gamma1", "gamma2")]
    for name in ("source", "lens"):
        n = p[f"{name}_n"]
        radius, bright = shape(p, name, caustics.light.func.k_sersic(n))
        columns += [*(p[f"{name}_{k}"] for k in ("x", "y", "q", "phi")), n, radius, bright * PIXEL**2]
    vector = torch.stack(columns, -1)
    batched = torch.vmap(simulator)

    def run(batch: int) -> Tensor:
        with torch.no_grad():
            return torch.cat([batched(part) for part in vector.split(batch)]).flip(1)  # its rows run up

    return run


def lenstronomy_runner(p: Columns) -> Callable[[], np.ndarray]:
    first = -0.5 * (SIZE - 1) * PIXEL
    grid = PixelGrid(SIZE, SIZE, np.diag([PIXEL, PIXEL]), first, first)
    kernel = PSF("PIXEL", kernel_point_source=psf().flip(0).numpy().astype(float))
    sersic = ["SERSIC_ELLIPSE"]
    model = ImageModel(
        grid, kernel, LensModel(["SIE", "SHEAR"]), LightModel(sersic), LightModel(sersic),
        kwargs_numerics={"supersampling_factor": 1},
    )  # fmt: skip
    v = {k: c.double().numpy() for k, c in p.items()}
    settings = []
    for k in range(len(v["q"])):
        e1, e2 = phi_q2_ellipticity(v["phi"][k], v["q"][k])
        lens = [{"theta_E": v["theta_e"][k], "e1": e1, "e2": e2, "center_x": v["x"][k], "center_y": v["y"][k]},
                {"gamma1": v["gamma1"][k], "gamma2": v["gamma2"][k]}]  # fmt: skip
        lights = []
        for name in ("source", "lens"):
            one = {key: p[f"{name}_{key}"][k : k + 1] for key in LIGHT}
            n = one["n"]
            radius, bright = shape({f"{name}_{key}": c for key, c in one.items()}, name, 1.9992 * n - 0.3271)
            e1, e2 = phi_q2_ellipticity(v[f"{name}_phi"][k], v[f"{name}_q"][k])
            lights.append([{
                "amp": float(bright), "R_sersic": float(radius * one["q"].sqrt()), "n_sersic": float(n),
                "e1": e1, "e2": e2, "center_x": float(one["x"]), "center_y": float(one["y"]),
            }])  # fmt: skip
        settings.append((lens, *lights))

    def run() -> np.ndarray:
        return np.stack([model.image(*s)[::-1] for s in settings])

    return run


def rate(run: Callable[[], object], n: int, repeats: int = 5) -> float:
    """Images per second of processor time, the best of a few runs."""
    run()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return n / best


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image + rng.standard_normal(image.shape) * np.sqrt(SKY**2 + np.maximum(image, 0) / GAIN)


def measure(what: str, n: int) -> float:
    """Images with noise per second of one code, in a process of its own."""
    p = draw(n)
    if what.startswith("deepfield"):
        margin, compiled = (0 if "no margin" in what else None), "compiled" in what
        return max(
            rate(lambda: in_batches(p, batch, margin, compiled), n)  # noqa: B023
            for batch in BATCHES
        )
    if what == "lenstronomy":
        run, rng = lenstronomy_runner(p), np.random.default_rng(0)
        return rate(lambda: noisy(run(), rng), n, repeats=2)
    if what.endswith("memory kept"):
        keep_memory()
    run_caustics = caustics_runner(p)
    return max(
        rate(lambda: NOISE(run_caustics(batch)), n)  # noqa: B023
        for batch in BATCHES
    )


def agreement() -> dict[str, float]:
    """The largest difference of noiseless images over their peaks."""
    few = draw(64)
    wide, bare = by_deepfield(few, None, noise=False), by_deepfield(few, 0, noise=False)
    peak = wide.amax((1, 2))[:, None, None]
    others = {"caustics": (caustics_runner(few)(64), wide)}
    others["lenstronomy"] = (torch.tensor(lenstronomy_runner(few)().copy()), bare)
    return {k: float(((image - own) / peak).abs().max()) for k, (image, own) in others.items()}


def keep(p: Columns) -> None:
    """One image of each peer, and what it shows."""
    with atomic(RESULT.parents[2] / "tests" / "lensing" / "images.npz") as temporary:
        np.savez_compressed(
            temporary,
            psf=psf().numpy(),
            pixel=PIXEL,
            caustics=caustics_runner(p)(1)[0].numpy().astype(np.float32),
            lenstronomy=lenstronomy_runner(p)()[0].astype(np.float32),
            **{k: v.numpy() for k, v in p.items()},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    parser.add_argument("--only", choices=CODES, help="one code, in this process")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.only:
        print(measure(arguments.only, arguments.n))
        return
    rates = {}
    for code in CODES:
        command = [sys.executable, __file__, "-n", str(arguments.n), "--only", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rates[code] = float(done.stdout.split()[-1])
    result = {
        "versions": {k: metadata.version(k) for k in ("torch", "caustics", "lenstronomy")},
        "largest difference over the peak": agreement(),
        "images per core-second": {k: round(v) for k, v in rates.items()},
        **{f"times {peer}": {k: round(rates[k] / rates[peer], 2) for k in OURS} for peer in PEERS},
        "machine": machine(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.write:
        with atomic(RESULT) as temporary:
            temporary.write_text(text + "\n")
        keep(draw(1))


if __name__ == "__main__":
    main()
