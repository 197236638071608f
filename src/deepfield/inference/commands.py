"""deepfield inference: the verbs on the command line."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show
from deepfield.core.errors import DeepfieldError
from deepfield.core.table import shorten

app = App(
    name="inference",
    group_parameters=PARAMETERS,
    help="Simulation-based inference: simulations and data in, a posterior of the parameters out.",
    help_epilogue="Real data, in some minutes: `deepfield run inference --out report`.\n\n"
    "Your own: `deepfield inference fit --simulations sims.parquet --prior prior.json --out model`, then "
    "`deepfield inference sample model observation.npy --out chain.parquet`.",
)
Table = Annotated[
    Path,
    Parameter(
        help="Parquet, HDF5, FITS or CSV: a column for each parameter of the prior, the data in column x or "
        "in all other columns; or .npz with arrays theta and x."
    ),
]
Data = Annotated[str, Parameter(help="Columns that hold the data, with commas; else all that are no parameters.")]


@app.command
def fit(
    *,
    simulations: Table,
    prior: Path,
    out: Path,
    method: Literal["npe", "nle", "nre"] = "npe",
    data: Data = "",
    members: int = 2,
    epochs: int = 0,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Learn a posterior from finished simulations, and test it on a part of them.

    A killed fit goes on where it stopped when the same command is given again.

    Parameters
    ----------
    prior
        JSON that says what the parameters were drawn from: {"omega_m": [0.1, 0.5], "w": {"normal": [-1, 0.2]}}.
    out
        Folder of the model.
    method
        npe learns the posterior, nle the likelihood, nre the ratio of likelihood and evidence.
    members
        Nets whose densities are averaged.
    epochs
        0 chooses.
    """
    from deepfield.core.store import checkpoints
    from deepfield.inference.diagnose import diagnose as test
    from deepfield.inference.model import InferenceConfig
    from deepfield.inference.priors import Prior
    from deepfield.inference.simulations import Simulations
    from deepfield.inference.train import train

    known = Prior.of(prior)
    table = Simulations.read(simulations, known, data=_names(data))
    if table.columns:
        print(f"data: {len(table.columns)} columns ({shorten(table.columns)})", file=sys.stderr)
    tested, used = table.split(min(0.1, 500 / len(table)), seed=seed + 1)
    settings = InferenceConfig(method=method, members=members, epochs=epochs, seed=seed)
    with checkpoints(out, {"simulations": table.digest(), **asdict(settings)}) as folder:
        posterior = train(used, known, settings, checkpoint=folder / "fit.ckpt", progress=True)
        report = test(posterior, tested, seed=seed)
        posterior.card["diagnostics"] = report.to_dict()
        posterior.save(out)
    show({"model": str(out), **report.to_dict()}, f"{report}\nmodel: {out}", as_json=json)


@app.command
def sample(
    model: Path,
    observation: Path,
    *,
    out: Path,
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 10_000,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Draw from the posterior of an observation; warns if it is unlike the simulations.

    Parameters
    ----------
    model
        A folder that `fit` wrote.
    observation
        .npy, .npz (array x), or a table with one row and the columns of the simulations' data; or plain numbers.
    out
        .parquet, .hdf5, .fits or .csv with a column for each parameter; .txt with a .paramnames file for GetDist.
    n
        Number of draws.
    """
    from deepfield.inference.chains import read_observation, write_chain
    from deepfield.inference.posterior import Posterior

    posterior = Posterior.load(model)
    theta = posterior.sample(read_observation(observation, posterior), n, seed=seed)
    if theta.ndim != 2:
        raise DeepfieldError(f"{observation} holds {len(theta)} observations: one is asked for")
    write_chain(theta, posterior.prior.names, out)
    rows = [
        {"parameter": name, "mean": float(column.mean()), "std": float(column.std())}
        for name, column in zip(posterior.prior.names, theta.T)
    ]
    lines = [f"{row['parameter']:<16} {row['mean']:>12.5g} ± {row['std']:.3g}" for row in rows]
    show(rows, "\n".join(lines), as_json=json)
    print(f"{n:,} draws to {out}", file=sys.stderr)


@app.command
def diagnose(
    model: Path,
    *,
    simulations: Annotated[Path | None, Parameter(help="Fresh ones; those held out by `fit` if left out.")] = None,
    data: Data = "",
    most: int = 1000,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Show whether a posterior is calibrated: simulation-based calibration, TARP, coverage.

    Parameters
    ----------
    model
        A folder that `fit` wrote.
    most
        How many of the simulations are used.
    """
    from deepfield.inference.diagnose import diagnose as test
    from deepfield.inference.posterior import Posterior
    from deepfield.inference.simulations import Simulations

    posterior = Posterior.load(model)
    if simulations is None:
        found = posterior.card.get("diagnostics")
        if not found:
            raise DeepfieldError(f"{model} was not tested when it was fitted: give --simulations")
        lines = [f"{key}: {value}" for key, value in found.items()]
        show(found, "\n".join(lines), as_json=json)
        return
    # A table is read by the names it was trained on; an archive of arrays has no columns.
    columns = _names(data) or (posterior.card.get("columns", []) if simulations.suffix != ".npz" else [])
    report = test(posterior, Simulations.read(simulations, posterior.prior, data=columns), most=most, seed=seed)
    show(report.to_dict(), str(report), as_json=json)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
