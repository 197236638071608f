"""deepfield emulators: the verbs on the command line."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show

app = App(
    name="emulators",
    group_parameters=PARAMETERS,
    help="Emulators: matter power and CMB spectra at once, and emulators of any summary statistic.",
    help_epilogue="Without a training:\n"
    "`deepfield emulators power --omega-m .31 --omega-b .049 --h .68 --n-s .965 --sigma-8 .81 --out pk.csv`.\n\n"
    "Your own: `deepfield emulators train simulations.parquet --inputs omega_m,h --outputs pk --out model`.",
)
Simulations = Annotated[Path, Parameter(help="Parquet, HDF5, FITS or CSV: a row for each simulation.")]
Columns = Annotated[str, Parameter(help="Names or patterns with commas: omega_m,h or pk_*.")]


@app.command
def power(
    *,
    omega_m: float,
    omega_b: float,
    h: float,
    n_s: float,
    sigma_8: float,
    out: Path,
    z: str = "0",
    kmin: float = 1e-4,
    kmax: float = 10.0,
    nk: int = 200,
    nonlinear: bool = False,
    m_nu: float | None = None,
    w_0: float | None = None,
    w_a: float | None = None,
    log_t_agn: float | None = None,
    json: Json = False,
) -> None:
    """Write the matter power spectrum of a flat cosmology, LCDM with massless neutrinos if nothing else is given.

    Parameters
    ----------
    omega_m, omega_b
        Shares of matter and of baryons.
    h
        H0 / (100 km/s/Mpc).
    out
        Table with columns z, k in h/Mpc, power in (Mpc/h)^3, and its relative error.
    z
        Redshifts of 0 to 3, with commas.
    kmin, kmax, nk
        Wavenumbers, 1e-4 to 50 h/Mpc, evenly in the logarithm; with --nonlinear to 10.
    nonlinear
        HMcode2020 in place of the linear spectrum.
    m_nu
        Sum of the masses of three equal neutrinos in eV, to 0.6.
    w_0, w_a
        Equation of state of dark energy, w_0 + w_a (1 - a).
    log_t_agn
        With --nonlinear: feedback by active nuclei that heat gas to this log10 of a temperature in K, 7.3 to 8.3.
    """
    import numpy as np

    from deepfield.core.errors import DeepfieldError
    from deepfield.core.table import Table
    from deepfield.data import write

    try:
        redshifts = np.array([float(part) for part in z.split(",")])
    except ValueError:
        raise DeepfieldError(f"--z takes numbers with commas, such as 0,0.5,1; not '{z}'") from None
    if nk < 2 or not 0 < kmin < kmax:
        raise DeepfieldError(f"wavenumbers go from kmin up to kmax in two steps or more: {kmin}, {kmax}, {nk}")
    k = np.geomspace(kmin, kmax, nk)
    k[0], k[-1] = kmin, kmax
    cosmology = {"omega_m": omega_m, "omega_b": omega_b, "h": h, "n_s": n_s, "sigma_8": sigma_8}
    more = {"m_nu": m_nu, "w_0": w_0, "w_a": w_a, "log_t_agn": log_t_agn}
    wider = {name: value for name, value in more.items() if value is not None}
    spectra, error = _power(cosmology, wider, k, redshifts, nonlinear)
    columns = {
        "z": np.repeat(redshifts, nk),
        "k": np.tile(k, len(redshifts)),
        "power": spectra.ravel(),
        "relative_error": error.ravel(),
    }
    write(Table(columns), out)
    content = {"out": str(out), "rows": len(spectra.ravel()), "redshifts": redshifts.tolist()}
    show(content, f"{spectra.size} values of P(k, z) to {out}", as_json=json)


def _power(
    cosmology: dict[str, float], wider: dict[str, float], k: Any, z: Any, nonlinear: bool
) -> tuple[Any, Any]:
    """Spectra and their relative errors (Z, K), by the wide emulator if a parameter asks for it."""
    import numpy as np

    if wider:
        from deepfield.emulators.wide import WidePower

        wide, given = WidePower(nonlinear=nonlinear), {**cosmology, **wider}
        return wide(given, k, z), wide.error(given, k, z)
    from deepfield.emulators.power import MatterPower

    narrow = MatterPower(nonlinear=nonlinear)
    return narrow(cosmology, k, z), np.tile(narrow.error(k, cosmology), (len(z), 1))


@app.command
def cmb(
    *,
    omega_b_h2: float,
    omega_c_h2: float,
    h: float,
    tau: float,
    n_s: float,
    ln_a_s: float,
    out: Path,
    json: Json = False,
) -> None:
    """Write the spectra of the microwave background of a flat LCDM cosmology, l of 2 to 2500.

    Parameters
    ----------
    omega_b_h2, omega_c_h2
        Omega h^2 of baryons and of cold dark matter; one neutrino has 0.06 eV.
    h
        H0 / (100 km/s/Mpc).
    tau
        Optical depth.
    n_s, ln_a_s
        Tilt, and ln(10^10 A_s), of the primordial spectrum at 0.05/Mpc.
    out
        Table with columns l, tt, te, ee and pp, and their errors tt_std and so on: lensed l (l + 1) C_l / 2 pi in
        muK^2, and (l (l + 1))^2 C_l / 2 pi of the lensing potential.
    """
    from deepfield.core.table import Table
    from deepfield.data import write
    from deepfield.emulators.cmb import CMBSpectra

    emulator = CMBSpectra()
    cosmology = {
        "omega_b_h2": omega_b_h2,
        "omega_c_h2": omega_c_h2,
        "h": h,
        "tau": tau,
        "n_s": n_s,
        "ln_a_s": ln_a_s,
    }
    found = emulator.predict(cosmology)
    columns = {"l": emulator.ell, **{name: one.mean for name, one in found.items()}}
    columns |= {f"{name}_std": one.std for name, one in found.items()}
    write(Table(columns), out)
    content = {"out": str(out), "rows": len(emulator.ell)}
    show(content, f"spectra of l = 2 to 2500 to {out}", as_json=json)


@app.command
def simulate(
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 256,
    *,
    out: Path,
    z: str = "0",
    kmin: float = 1e-3,
    kmax: float = 10.0,
    nk: int = 100,
    nonlinear: bool = False,
    workers: int = 1,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Run CAMB over a Sobol sequence in the box; a killed run goes on when the same command is given again.

    Parameters
    ----------
    n
        Number of cosmologies, a second of processor time each.
    out
        Table with the five parameters and a column pk of spectra in (Mpc/h)^3, redshift by redshift.
    z
        Redshifts, with commas.
    kmin, kmax, nk
        Wavenumbers in h/Mpc.
    nonlinear
        HMcode2020 in place of the linear spectrum.
    workers
        Processes.
    """
    import numpy as np

    from deepfield.core.errors import DeepfieldError
    from deepfield.core.optional import require
    from deepfield.core.store import checkpoints
    from deepfield.data import write
    from deepfield.emulators.simulate import boltzmann_spectra

    if n < 1:
        raise DeepfieldError(f"-n is the number of cosmologies, one or more; got {n}")
    require("camb", extra="emulators")
    redshifts, k = [float(part) for part in z.split(",")], np.geomspace(kmin, kmax, nk)
    job = {"n": n, "z": redshifts, "k": [kmin, kmax, nk], "nonlinear": nonlinear, "seed": seed}
    with checkpoints(out, job) as folder:
        table = boltzmann_spectra(
            n, k=k, z=redshifts, nonlinear=nonlinear, seed=seed, folder=folder, workers=workers
        )
        write(table, out)
    show({"out": str(out), "rows": len(table)}, f"{len(table)} cosmologies to {out}", as_json=json)


@app.command
def train(
    table: Simulations,
    *,
    inputs: Columns,
    outputs: Columns,
    out: Path,
    method: Literal["process", "net"] = "process",
    components: int = 0,
    epochs: int = 400,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Train an emulator of a summary statistic on finished simulations, and say how wrong it is.

    Parameters
    ----------
    out
        Folder of the model.
    method
        process for some hundred to some thousand simulations, net for more.
    components
        Principal components; 0 chooses.
    epochs
        Of the net.
    """
    from deepfield.core.store import checkpoints
    from deepfield.data import files
    from deepfield.emulators.model import EmulatorConfig
    from deepfield.emulators.train import train as fit

    rows = files.read(table)
    config = EmulatorConfig(method=method, components=components, epochs=epochs, seed=seed)
    job = {"table": rows.digest(), "inputs": inputs, "outputs": outputs, **asdict(config)}
    with checkpoints(out, job) as folder:
        emulator = fit(rows, config, inputs=inputs, outputs=outputs, checkpoint=folder / "fit.ckpt")
        emulator.save(out)
    left = emulator.card["left_out"]
    words = (
        f"error on simulations left out: median {left['median']:.2%}, 95 % below {left['p95']:.2%}\nmodel: {out}"
    )
    show({"model": str(out), **emulator.card}, f"{words}\nmodel: {out}", as_json=json)


@app.command
def predict(model: Path, table: Simulations, *, out: Path, json: Json = False) -> None:
    """Emulate the summary statistic for every row of a table of parameters.

    Parameters
    ----------
    model
        A folder that `train` wrote.
    out
        Table with the parameters, and columns mean and std of vectors.
    """
    from deepfield.core.table import Table
    from deepfield.data import files, write
    from deepfield.emulators.model import Emulator

    emulator = Emulator.load(model)
    rows = files.read(table)
    theta = emulator.rows(rows)
    found = emulator.predict(theta)
    columns = {**dict(zip(emulator.inputs, theta.T)), "mean": found.mean, "std": found.std}
    write(Table(columns), out)
    show({"out": str(out), "rows": len(found)}, f"{len(found)} rows to {out}", as_json=json)


@app.command
def score(model: Path, table: Simulations, *, json: Json = False) -> None:
    """Compare an emulator with simulations that it has not seen.

    Parameters
    ----------
    model
        A folder that `train` wrote.
    """
    from deepfield.data import files
    from deepfield.emulators.model import Emulator
    from deepfield.emulators.score import score_table

    emulator, rows = Emulator.load(model), files.read(table)
    if rows.digest() == emulator.card.get("data_sha256"):
        print("deepfield: warning: these are the simulations it was trained on", file=sys.stderr)
    found = score_table(emulator, rows)
    show(found.to_dict(), str(found), as_json=json)
