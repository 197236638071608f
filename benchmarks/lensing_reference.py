"""Lens physics against lenstronomy and caustics, and the reference numbers that the tests hold.

    python3.11 -m venv venv-lens && venv-lens/bin/pip install torch numpy scipy astropy lenstronomy caustics
    coolest PYTHONPATH=src venv-lens/bin/python benchmarks/lensing_reference.py --write

A thousand random lenses of each kind, one position each, everything in float64: potential, deflection, kappa,
shear, magnification and time delay. Prints the largest difference over max(1, |value|), writes
benchmarks/results/lensing_reference.json and, for a quarter of the lenses, tests/lensing/reference.npz.

What differs for other reasons than the physics is shown apart, under "constants": caustics interpolates distances,
so its days per arcsec^2 and what it makes of an NFW halo's mass (kappa_s, r_s) are compared by themselves, and the
rest with its own values; lenstronomy's constants of nature are older, so an NFW halo is handed to it as kappa_s
and r_s, and its Sigma_cr is compared by itself. Its isothermal ellipsoid is its power law at slope 2, as its
profile "SIE" takes second derivatives by differences ("SIE" below). caustics gives the magnification without its
sign.
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib import metadata
from pathlib import Path

import caustics
import numpy as np
import torch
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.Cosmo.lens_cosmo import LensCosmo
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.Util.param_util import phi_q2_ellipticity

from deepfield.core.files import atomic
from deepfield.lensing import Lens, Planes, epl, images, nfw, sheet, sie
from deepfield.physics.lensing import ARCSEC, critical_density, delay_unit, nfw_halo

ROOT = Path(__file__).parents[1]
COSMO = FlatLambdaCDM(H0=70.0, Om0=0.3, Tcmb0=0.0)
Z_LENS, Z_SOURCE = 0.5, 2.0
PLANES = (0.3, 0.7)
QUANTITIES = ("potential", "alpha_x", "alpha_y", "kappa", "gamma1", "gamma2", "magnification", "delay")
KINDS = ("sie", "epl", "nfw", "sheet")
Columns = dict[str, np.ndarray]


def draw(kind: str, n: int, seed: int) -> Columns:
    """Parameters and a position (arcsec from the centre) of n lenses."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    u = rng.uniform
    q = u(0.2, 1.0, n)
    q[::20] = 0.2
    q[1::20] = 0.999999
    q[2::20] = 1 - 10.0 ** -u(2, 6, len(q[2::20]))
    p: Columns = {"x": u(-0.5, 0.5, n), "y": u(-0.5, 0.5, n)}
    if kind in ("sie", "epl"):
        p |= {"theta_e": u(0.3, 3.0, n), "q": q, "phi": u(-np.pi, np.pi, n)}
    if kind == "epl":
        p["slope"] = u(1.3, 2.7, n)
    if kind == "nfw":
        p |= {"mass": 10 ** u(11, 15, n), "concentration": u(3, 15, n)}
        p["kappa_s"], p["r_s"] = nfw_halo(p["mass"], p["concentration"], Z_LENS, Z_SOURCE, COSMO)
    if kind == "sheet":
        p = {"kappa": u(-0.2, 0.2, n), "gamma1": u(-0.3, 0.3, n), "gamma2": u(-0.3, 0.3, n)}
    closest = np.maximum(0.02, 1e-3 * p.get("r_s", 0.0))  # nearer the peers take differences of like numbers
    radius, angle = np.exp(u(np.log(closest), np.log(6.0), n)), u(-np.pi, np.pi, n)
    angle[3::10] = rng.integers(0, 4, len(angle[3::10])) * np.pi / 2  # on the axes
    p["at_x"], p["at_y"] = radius * np.cos(angle), radius * np.sin(angle)
    p["at_x"] += p.get("x", 0.0)
    p["at_y"] += p.get("y", 0.0)
    return p


def own(kind: str, p: Columns, dtype: torch.dtype = torch.float64) -> Columns:
    """All quantities of deepfield, for the whole batch at once."""
    given = {k: torch.as_tensor(v, dtype=dtype) for k, v in p.items() if k not in ("mass", "concentration")}
    x, y = given.pop("at_x"), given.pop("at_y")
    lens = Lens({"sie": sie, "epl": epl, "nfw": nfw, "sheet": sheet}[kind](**given))
    ax, ay = lens.deflection(x, y)
    sx, sy = lens.source(x, y)
    found = [
        lens.potential(x, y), ax, ay, lens.convergence(x, y), *lens.shear(x, y), lens.magnification(x, y),
        lens.time_delay(x, y, sx, sy, z_lens=Z_LENS, z_source=Z_SOURCE, cosmo=COSMO),
    ]  # fmt: skip
    return {name: v.numpy() for name, v in zip(QUANTITIES, found)}


def by_lenstronomy(kind: str, p: Columns, isothermal: str = "EPL") -> Columns:
    """The same of lenstronomy, a lens at a time."""
    model = LensModel(
        {"sie": [isothermal], "epl": ["EPL"], "nfw": ["NFW"], "sheet": ["SHEAR", "CONVERGENCE"]}[kind],
        z_lens=Z_LENS, z_source=Z_SOURCE, cosmo=COSMO,
    )  # fmt: skip
    rows = []
    for k in range(len(p["at_x"])):
        v = {name: column[k] for name, column in p.items()}
        if kind == "sheet":
            args = [{"gamma1": v["gamma1"], "gamma2": v["gamma2"]}, {"kappa": v["kappa"]}]
        elif kind == "nfw":
            args = [{"Rs": v["r_s"], "alpha_Rs": 4 * v["kappa_s"] * v["r_s"] * (1 - np.log(2))}]
        else:
            e1, e2 = phi_q2_ellipticity(v["phi"], v["q"])
            args = [{"theta_E": v["theta_e"], "e1": e1, "e2": e2}]
            if (kind, isothermal) != ("sie", "SIE"):
                args[0]["gamma"] = v.get("slope", 2.0)
        if kind != "sheet":
            args[0] |= {"center_x": v["x"], "center_y": v["y"]}
        x, y = np.array([v["at_x"]]), np.array([v["at_y"]])  # its potential of an NFW halo clips numbers
        sx, sy = model.ray_shooting(x, y, args)
        rows.append([
            model.potential(x, y, args), *model.alpha(x, y, args), model.kappa(x, y, args),
            *model.gamma(x, y, args), model.magnification(x, y, args),
            model.arrival_time(x, y, args, x_source=sx, y_source=sy),
        ])  # fmt: skip
    return dict(zip(QUANTITIES, np.array(rows, float)[:, :, 0].T))


def by_caustics(kind: str, p: Columns) -> Columns:
    """The same of caustics, a lens at a time; its shear and magnification come from its derivatives."""
    f64 = {"dtype": torch.float64}
    cosmology = caustics.FlatLambdaCDM(
        h0=0.7, Om0=0.3, critical_density_0=COSMO.critical_density0.to_value("solMass / Mpc3")
    ).to(**f64)
    rows = []
    extra: dict[str, list[float]] = {"kappa_s": [], "r_s": []} if kind == "nfw" else {}
    for k in range(len(p["at_x"])):
        v = {name: float(column[k]) for name, column in p.items()}
        x, y = (torch.tensor([v[name]], **f64) for name in ("at_x", "at_y"))
        place = {"cosmology": cosmology, "z_l": Z_LENS, "z_s": Z_SOURCE, "x0": v.get("x", 0), "y0": v.get("y", 0)}
        if kind in ("sie", "epl"):
            shape = {"q": v["q"], "phi": v["phi"], "Rein": v["theta_e"]}
            lens = (
                caustics.SIE(**place, **shape)
                if kind == "sie"
                else caustics.EPL(**place, **shape, t=v["slope"] - 1, n_iter=120)
            )
        elif kind == "nfw":
            lens = caustics.NFW(**place, mass=v["mass"], c=v["concentration"]).to(**f64)
            z = torch.tensor([Z_LENS, Z_SOURCE], **f64)
            r_s = lens.get_scale_radius()
            extra["kappa_s"].append(float(lens.get_scale_density() * r_s / cosmology.critical_surface_density(*z)))
            extra["r_s"].append(float(r_s / cosmology.angular_diameter_distance(z[0]) / ARCSEC))
        else:
            parts = [
                caustics.ExternalShear(**place, gamma_1=v["gamma1"], gamma_2=v["gamma2"]),
                caustics.MassSheet(**place, kappa=v["kappa"]),
            ]
            lens = caustics.SinglePlane(cosmology, lenses=parts, z_l=Z_LENS, z_s=Z_SOURCE)
        lens.to(**f64)
        place_day = lens if kind != "sheet" else parts[0]
        day = float(place_day._arcsec2_to_days()) / float(delay_unit(Z_LENS, Z_SOURCE, COSMO))
        gamma = lens.shear(x, y)
        row = [
            lens.potential(x, y), *lens.reduced_deflection_angle(x, y), lens.convergence(x, y),
            *gamma, lens.magnification(x, y), lens.time_delay(x, y) / day,
        ]  # fmt: skip
        rows.append([float(torch.as_tensor(r).reshape(-1)[0]) for r in row])
    extra["day"] = [day] * len(rows)
    return dict(zip(QUANTITIES, np.array(rows, float).T)) | {k: np.array(v) for k, v in extra.items()}


def two_planes(n: int, seed: int) -> tuple[Columns, dict[str, float]]:
    """Ellipsoids at redshifts 0.3 and 0.7 against lenstronomy: rays, magnifications, and delays between images."""
    rng = np.random.default_rng(seed)
    kept: dict[str, list[np.ndarray]] = {k: [] for k in ("lens", "at", "source", "beta", "magnification", "delay")}
    worst = {"beta": 0.0, "magnification": 0.0, "delay": 0.0}
    model = LensModel(
        ["EPL", "EPL"], z_source=Z_SOURCE, lens_redshift_list=list(PLANES), multi_plane=True, cosmo=COSMO
    )
    for _ in range(n):
        near, far = ([rng.uniform(*r) for r in ((t, 2 * t), (0.3, 0.95), (0, 3.1), (-0.2, 0.2), (-0.2, 0.2))]
                     for t in (0.7, 0.2))  # fmt: skip
        planes = Planes([Lens(sie(*v[:3], x=v[3], y=v[4])) for v in (near, far)], PLANES, Z_SOURCE, COSMO)
        source = rng.uniform(-0.4, 0.4, 2)
        found = images(planes, *source)
        x, y = found.x.numpy(), found.y.numpy()
        args = []
        for v in (near, far):
            e1, e2 = phi_q2_ellipticity(v[2], v[1])
            args.append({"theta_E": v[0], "gamma": 2.0, "e1": e1, "e2": e2, "center_x": v[3], "center_y": v[4]})
        delay = model.arrival_time(x, y, args)
        theirs = {
            "beta": np.stack(model.ray_shooting(x, y, args)),
            "magnification": model.magnification(x, y, args, diff=1e-6),
            "delay": delay - delay[0],
        }
        days = planes.time_delay(x, y, *source).numpy()
        ours = {
            "beta": np.stack(planes.source(x, y)),
            "magnification": found.magnification.numpy(),
            "delay": days - days[0],
        }
        for k in worst:
            size = np.maximum(1, np.abs(theirs[k]))
            worst[k] = max(worst[k], float(np.max(np.abs(ours[k] - theirs[k]) / size)))
        for k, value in {
            "lens": np.array([near, far]),
            "at": np.stack([x, y]),
            "source": source,
            **theirs,
        }.items():
            most = 9 - value.shape[-1] if k not in ("lens", "source") else 0
            wide = [(0, 0)] * (value.ndim - 1) + [(0, most)]
            kept[k].append(np.pad(value, wide, constant_values=np.nan))
    return {f"planes/{k}": np.array(v) for k, v in kept.items()}, worst


def compare(kind: str, p: Columns, peer: Columns, *, signed: bool) -> dict[str, float]:
    """The largest difference in each quantity over max(1, |value|)."""
    ours = own(kind, p | {k: peer[k] for k in ("kappa_s", "r_s") if k in peer})
    if not signed:
        ours["magnification"] = np.abs(ours["magnification"])
    return {q: float(np.max(np.abs(ours[q] - peer[q]) / np.maximum(1, np.abs(peer[q])))) for q in QUANTITIES}


def constants(halos: Columns, peer: Columns) -> dict[str, float]:
    """What differs between the codes before any lensing, as ratios less one."""
    lenstronomy = LensCosmo(Z_LENS, Z_SOURCE, cosmo=COSMO).sigma_crit / float(
        critical_density(Z_LENS, Z_SOURCE, COSMO)
    )
    return {
        "lenstronomy Sigma_cr": lenstronomy - 1,
        "caustics days": float(peer["day"][0]) - 1,
        **{f"caustics {k} of a halo": float(np.max(np.abs(peer[k] / halos[k] - 1))) for k in ("kappa_s", "r_s")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="lenses of each kind")
    parser.add_argument("--write", action="store_true", help="keep the results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    kept: Columns = {}
    table: dict[str, dict[str, dict[str, float]]] = {}
    for kind in KINDS:
        p = draw(kind, arguments.n, seed=0)
        peers = {"lenstronomy": by_lenstronomy(kind, p), "caustics": by_caustics(kind, p)}
        table[kind] = {name: compare(kind, p, v, signed=name != "caustics") for name, v in peers.items()}
        if kind == "sie":
            table[kind]["lenstronomy SIE"] = compare(kind, p, by_lenstronomy(kind, p, "SIE"), signed=True)
        if kind == "nfw":
            apart = constants(p, peers["caustics"])
        for name, row in table[kind].items():
            print(f"{kind:6} {name:16}", *[f"{q} {d:.1e}" for q, d in row.items()])
        keep = slice(0, arguments.n // 4)
        kept |= {f"{kind}/{name}": column[keep] for name, column in p.items()}
        kept |= {f"{kind}/{peer}/{q}": c[keep] for peer, v in peers.items() for q, c in v.items() if q != "day"}
    print("constants", *[f"{name} {d:.1e}" for name, d in apart.items()])
    planes, row = two_planes(40, seed=1)
    kept |= planes
    print("planes", *[f"{q} {d:.1e}" for q, d in row.items()])
    versions = {name: metadata.version(name) for name in ("lenstronomy", "caustics", "torch", "astropy")}
    if arguments.write:
        kept["versions"] = np.array(json.dumps(versions))
        with atomic(ROOT / "tests" / "lensing" / "reference.npz") as temporary:
            np.savez_compressed(temporary, **kept)
        found = {"versions": versions, "lenses of each kind": arguments.n, "largest": table}
        text = json.dumps(found | {"two planes, lenstronomy": row, "constants": apart}, indent=1)
        with atomic(ROOT / "benchmarks" / "results" / "lensing_reference.json") as temporary:
            temporary.write_text(text + "\n")


if __name__ == "__main__":
    main()
