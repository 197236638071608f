"""deepfield photoz: the verbs on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.data.presets import PRESETS

if TYPE_CHECKING:
    from deepfield.core.table import Table

app = App(
    name="photoz",
    group_parameters=PARAMETERS,
    help="Photometric redshifts: a catalogue of magnitudes in, a calibrated p(z) for every galaxy out.",
    help_epilogue="Your own: `deepfield photoz train galaxies.parquet --out model`, then "
    "`deepfield photoz predict model new.parquet --out pz.parquet`.",
)
Catalog = Annotated[
    Path, Parameter(help="FITS, HDF5, Parquet, CSV or ECSV; columns are recognised or given by --columns.")
]
Columns = Annotated[
    str,
    Parameter(
        help="Where the guess is wrong: pairs of standard and own names, "
        "mag_g=G_MAG,mag_err_g=G_ERR,z_spec=Z,id=NAME (fluxes with a unit, flux_g=FLUX_G:uJy; quote names with "
        f"spaces); a .json file of such pairs; or a preset: {', '.join(PRESETS)}."
    ),
]


# Its options are the fields of PhotozConfig, which is loaded when they are asked for.
app.command(
    "deepfield.photoz._train_command:train",
    name="train",
    help="Train p(z | magnitudes) on galaxies with spectroscopic redshifts.\n\n"
    "A killed training goes on where it stopped when the same command is given again.",
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
    from deepfield.data._told import told
    from deepfield.photoz.predict import predict_file

    counts = predict_file(model, catalog, out, engine=engine, columns=told(columns), workers=workers)
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
    from deepfield.photoz.score import score as compute

    table = _truth(catalog, columns, target)
    result = compute(pz, table, target=target if target in table.colnames else "z_spec")
    show(result.to_dict(), str(result), as_json=json)


def _truth(catalog: Path, columns: str, target: str) -> Table:
    """The catalogue with its redshifts; without photometry, a file of ids and redshifts will do."""
    from deepfield.data import files
    from deepfield.data._told import told
    from deepfield.photoz import read

    named = told(columns)
    try:
        return read(catalog, columns=named, target=target)
    except TableError:
        table = files.read(catalog)
        for standard, own in named.items() if isinstance(named, dict) else ():
            if standard in ("id", "z_spec") and own in table.colnames:
                table[standard] = table[own]
        if isinstance(named, str) or target not in table.colnames:
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
