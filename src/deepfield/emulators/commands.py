"""deepfield emulators: the verbs on the command line."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show

app = App(
    name="emulators",
    group_parameters=PARAMETERS,
    help="Emulators: matter power spectra in microseconds, and emulators of any summary statistic.",
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
    json: Json = False,
) -> None:
    """Write the matter power spectrum of a flat LCDM cosmology.

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
    """
    import numpy as np

    from deepfield.core.errors import DeepfieldError
    from deepfield.core.table import Table
    from deepfield.data import write
    from deepfield.emulators.power import MatterPower

    try:
        redshifts = np.array([float(part) for part in z.split(",")])
    except ValueError:
        raise DeepfieldError(f"--z takes numbers with commas, such as 0,0.5,1; not '{z}'") from None
    if nk < 2 or not 0 < kmin < kmax:
        raise DeepfieldError(f"wavenumbers go from kmin up to kmax in two steps or more: {kmin}, {kmax}, {nk}")
    k = np.geomspace(kmin, kmax, nk)
    k[0], k[-1] = kmin, kmax
    emulator = MatterPower(nonlinear=nonlinear)
    cosmology = {"omega_m": omega_m, "omega_b": omega_b, "h": h, "n_s": n_s, "sigma_8": sigma_8}
    spectra = emulator(cosmology, k, redshifts)
    columns = {
        "z": np.repeat(redshifts, nk),
        "k": np.tile(k, len(redshifts)),
        "power": spectra.ravel(),
        "relative_error": np.tile(emulator.error(k, cosmology), len(redshifts)),
    }
    write(Table(columns), out)
    content = {"out": str(out), "rows": len(spectra.ravel()), "redshifts": redshifts.tolist()}
    show(content, f"{spectra.size} values of P(k, z) to {out}", as_json=json)


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
