"""deepfield photoz: the verbs on the command line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.photoz.model import PhotozConfig

app = App(
    name="photoz",
    help="Photometric redshifts: a catalogue of magnitudes in, a calibrated p(z) for every galaxy out.",
)
Catalog = Annotated[
    Path, Parameter(help="FITS, HDF5, Parquet, CSV or ECSV; columns are recognised or given by --columns.")
]
Columns = Annotated[str, Parameter(help="Column preset (sdss, des, hsc, lsst, euclid) where the guess is wrong.")]
Json = Annotated[bool, Parameter(negative="", help="Print one JSON document for machines.")]


@app.command
def train(
    catalog: Catalog,
    *,
    out: Path,
    config: Annotated[PhotozConfig | None, Parameter(name="*")] = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    columns: Columns = "",
) -> None:
    """Train p(z | magnitudes) on galaxies with spectroscopic redshifts.

    A killed training goes on where it stopped when the same command is given again.

    Parameters
    ----------
    out
        Folder of the model.
    quick
        One network in place of an ensemble and its student: faster, and a little worse.
    """
    from deepfield.core.store import META
    from deepfield.photoz import read
    from deepfield.photoz.train import quickly, train_to_folder

    if out.exists() and not (out.is_dir() and ((out / META).exists() or not any(out.iterdir()))):
        raise DeepfieldError(f"{out} exists and is not a deepfield model; choose another --out or remove it")
    config = config or PhotozConfig()
    table = read(catalog, columns=columns or None, bands=config.bands or None, target=config.target)
    config = replace(config, target="z_spec")  # as read has called it
    model = train_to_folder(table, out, quickly(config) if quick else config)
    print(
        f"model: {out} ({', '.join(model.bands)}; {model.card['split']['train']:,} training rows)",
        file=sys.stderr,
    )


@app.command
def predict(
    model: Path,
    catalog: Catalog,
    *,
    out: Path,
    engine: Literal["torch", "onnx"] = "torch",
    columns: Columns = "",
    workers: int = 0,
) -> None:
    """Write a redshift density for every row of a catalogue, in its order.

    Rows that cannot be served get NaN and a reason. Parquet to Parquet streams files larger than memory, and
    goes on where it stopped if it was killed.

    Parameters
    ----------
    model
        A folder that `train` wrote, or an exported .onnx file.
    out
        .parquet, or .hdf5 for a qp ensemble as the LSST tools read it.
    engine
        onnx is about twice as fast; it needs the extra `onnx`.
    workers
        Threads; 0 takes one per core.
    """
    from deepfield.photoz.predict import predict_file

    counts = predict_file(model, catalog, out, engine=engine, columns=columns or None, workers=workers)
    print(
        f"{counts.rows:,} rows to {out}" + (f"; {counts.summary()}" if counts.unserved else ""),
        file=sys.stderr,
    )


@app.command
def score(
    pz: Path, catalog: Catalog, *, target: str = "z_spec", columns: Columns = "", json: Json = False
) -> None:
    """Compare redshift densities with spectroscopic redshifts, row by row.

    Parameters
    ----------
    pz
        A file that `predict` wrote.
    target
        Column with the spectroscopic redshift.
    """
    import json as js

    from deepfield.photoz.score import score as compute

    table = _truth(catalog, columns, target)
    result = compute(pz, table, target=target if target in table.colnames else "z_spec")
    print(js.dumps(result.to_dict(), indent=1) if json else result)


def _truth(catalog: Path, columns: str, target: str) -> Table:
    """The catalogue with its redshifts; without photometry, a file of ids and redshifts will do."""
    from deepfield.data import files
    from deepfield.photoz import read

    try:
        return read(catalog, columns=columns or None, target=target)
    except TableError:
        table = files.read(catalog)
        if columns or target not in table.colnames:
            raise
    if "object_id" in table.colnames and "id" not in table.colnames:
        table.rename_column("object_id", "id")
    return table


@app.command
def simulate(
    *,
    out: Path,
    survey: Literal["lsst", "sdss"] = "lsst",
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 10_000,
    seed: int = 0,
) -> None:
    """Write a simulated catalogue with known redshifts.

    Parameters
    ----------
    out
        The file to write.
    survey
        Whose bands, depths and errors.
    n
        Number of galaxies.
    """
    from deepfield.data.files import ENDINGS, write
    from deepfield.photoz.simulate import simulate as draw

    if out.suffix.lower() not in ENDINGS:
        raise DeepfieldError(f"cannot write '{out}': end it in .parquet, .hdf5, .fits, .csv or .ecsv")
    write(draw(n, survey=survey, seed=seed), out)
    print(f"{n:,} galaxies to {out}", file=sys.stderr)
