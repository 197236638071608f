"""deepfield morphology: the verbs on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show
from deepfield.core.errors import DeepfieldError
from deepfield.data.images._options import Catalog, Column, Device, Scale, Stamps

if TYPE_CHECKING:
    from deepfield.data.images.collection import Images

app = App(
    name="morphology",
    help="Galaxy morphology: images in, calibrated class or vote probabilities out.",
    group_parameters=PARAMETERS,
    help_epilogue="Without a training:\n"
    "`deepfield morphology predict galaxy-zoo-sdss images/ --out classes.parquet`.\n\n"
    "Your own: `deepfield morphology train images.parquet --out model`.",
)

# Its options are the fields of MorphologyConfig, which is loaded when they are asked for.
app.command(
    "deepfield.morphology._train_command:train",
    name="train",
    help="Train p(class or votes | image) on labelled images.\n\n"
    "A killed training goes on where it stopped when the same command is given again.",
)


@app.command
def predict(
    model: Path,
    images: Stamps,
    *,
    out: Path,
    catalog: Catalog = None,
    column: Column = "",
    pixel_scale: Scale = 0.0,
    device: Device = "auto",
    workers: int = 1,
) -> None:
    """Write class probabilities or vote fractions for every image, in order.

    Broken images get NaN and a reason. A killed run goes on where it stopped.

    Parameters
    ----------
    model
        A folder that `train` wrote, or the name of a model that comes with deepfield (`deepfield models`).
    out
        .parquet, with `p_<class>`, or `<question>_<answer>` and its `_lo68` and `_hi68`.
    workers
        Threads that decode images.
    """
    from deepfield.morphology.predict import predict_file

    counts = predict_file(
        model, images, out, device=device, catalog=catalog, column=column or None, pixel_scale=pixel_scale,
        workers=workers,
    )  # fmt: skip
    print(
        f"{counts.rows:,} images to {out}" + (f"; {counts.summary()}" if counts.unserved else ""),
        file=sys.stderr,
    )


@app.command
def score(
    predictions: Path,
    images: Stamps,
    *,
    labels: str = "",
    tree: str = "",
    rename: str = "",
    catalog: Catalog = None,
    json: Json = False,
) -> None:
    """Compare predictions with labels or votes, row by row; where there are identifiers they must agree.

    Parameters
    ----------
    predictions
        A file that `predict` wrote.
    images
        The images, or their table alone.
    labels
        Column with the classes, or columns with their shares, as for `train`.
    tree
        Tree of the votes, as for `train`.
    rename
        Classes of the column that the model calls otherwise, `cw=spiral,acw=spiral`; `unsure=` leaves rows out.
    """
    import numpy as np

    from deepfield.data.images.serve import check_same
    from deepfield.morphology.prediction import read_prediction
    from deepfield.morphology.score import score as compute
    from deepfield.morphology.targets import renamed, targets
    from deepfield.morphology.trees import tree as known

    found, columns = read_prediction(predictions)
    table = _table(images, catalog)
    if len(table) != len(found):
        raise DeepfieldError(
            f"{predictions} has {len(found)} rows, {catalog or images} {len(table)}: give the same images"
        )
    check_same(columns.get("object_id"), table, predictions)
    if not found.is_classes and not tree:
        raise DeepfieldError(f"{predictions} is of votes: give their --tree")
    names = [part.strip() for part in labels.split(",") if part.strip()]
    table = renamed(table, names, rename) if rename else table
    truth = targets(table, names, tree=known(tree) if tree else None, classes=() if tree else found.labels)
    y = truth.y.numpy().astype(np.float64) if truth.y.dim() == 2 else truth.y.numpy()
    result = compute(found, y, tree=truth.tree, classes=found.labels)
    show(result.to_dict(), str(result), as_json=json)


def _table(images: str, catalog: Path | None) -> Any:
    """The catalogue of the images; a plain table will do."""
    from deepfield.core.errors import TableError
    from deepfield.data import files
    from deepfield.data.images.read import read

    if catalog is not None:
        return files.read(catalog)
    try:
        return read(images).table
    except TableError:
        if not Path(images).is_file():
            raise
        return files.read(images)


def _open(model: Path, images: str, catalog: Path | None, column: str, scale: float) -> tuple[Any, Images]:
    from deepfield.data.images.serve import open_images
    from deepfield.morphology.model import MorphologyModel

    loaded = MorphologyModel.load(model)
    return loaded, open_images(loaded, images, catalog=catalog, column=column or None, pixel_scale=scale)


@app.command
def embed(
    model: Path,
    images: Stamps,
    *,
    out: Path,
    catalog: Catalog = None,
    column: Column = "",
    pixel_scale: Scale = 0.0,
) -> None:
    """Write what the net makes of every image, and how odd each is among them.

    Parameters
    ----------
    out
        .parquet, with `embedding` and `anomaly` (log mean distance to the ten nearest).
    """
    import numpy as np
    import pyarrow as pa

    from deepfield.core.prediction_files import feature_column
    from deepfield.data.images.serve import checked_target, identifiers
    from deepfield.morphology.explore import Index
    from deepfield.morphology.explore import embed as compute

    target = checked_target(out, images)
    loaded, stamps = _open(model, images, catalog, column, pixel_scale)
    found = compute(loaded, stamps)
    columns = {
        "object_id": pa.array(identifiers(stamps)),
        "anomaly": pa.array(Index(found).anomaly(found).astype(np.float32)),
        "embedding": feature_column(found),
    }
    _write(columns, target)
    print(f"{len(found):,} images to {out}", file=sys.stderr)


@app.command
def similar(
    embedding: Path, *, to: str, n: Annotated[int, Parameter(name=("--n", "-n"))] = 10, json: Json = False
) -> None:
    """Find the images most like one of them.

    Parameters
    ----------
    embedding
        A file that `embed` wrote.
    to
        Identifier of the image (`object_id`).
    n
        How many.
    """
    from deepfield.morphology.explore import similar as compute

    ids, points = _embedding(embedding)
    names = [str(i) for i in ids.tolist()]
    if to not in names:
        raise DeepfieldError(f"{embedding} has no object '{to}'; the first is '{names[0] if names else ''}'")
    rows, distance = compute(points, [names.index(to)], n=n)
    found = [{"object_id": ids.tolist()[r], "distance": float(d)} for r, d in zip(rows[0], distance[0])]
    show(found, "\n".join(f"{row['object_id']!s:<24} {row['distance']:.3f}" for row in found), as_json=json)


def _embedding(path: Path) -> tuple[Any, Any]:
    """Identifiers and embedding of a file that `embed` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DeepfieldError(f"no embedding at {path}: the file does not exist")
    try:
        table = pq.read_table(path, columns=["object_id", "embedding"])
        column = table["embedding"].combine_chunks()
        points = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
    except (pa.ArrowException, KeyError, ValueError, AttributeError, OSError):
        raise DeepfieldError(f"{path} was not written by deepfield morphology embed, or is damaged") from None
    return table["object_id"].to_numpy(), points


@app.command
def rank(
    model: Path,
    images: Stamps,
    *,
    out: Path,
    catalog: Catalog = None,
    column: Column = "",
    pixel_scale: Scale = 0.0,
) -> None:
    """Rank images by how much a label would teach the model: what to label next, first.

    Parameters
    ----------
    model
        Best an ensemble (`--members 3`), whose members can disagree.
    out
        .parquet, sorted, with `object_id`, `row`, `information` and `entropy`.
    """
    import numpy as np
    import pyarrow as pa

    from deepfield.data.images.serve import checked_target, identifiers
    from deepfield.morphology.explore import rank as compute

    target = checked_target(out, images)
    loaded, stamps = _open(model, images, catalog, column, pixel_scale)
    found = compute(loaded, stamps)
    order = np.argsort(-np.nan_to_num(found["information"], nan=-np.inf), kind="stable")
    columns = {"object_id": pa.array(identifiers(stamps)[order]), "row": pa.array(order)}
    _write(columns | {name: pa.array(values[order]) for name, values in found.items()}, target)
    print(f"{len(order):,} images ranked in {out}", file=sys.stderr)


def _write(columns: dict[str, Any], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from deepfield.core.files import atomic

    with atomic(target) as temporary:
        pq.write_table(pa.table(columns), temporary)


@app.command
def simulate(
    *,
    out: Path,
    survey: str = "sdss",
    tree: str = "decals5",
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 2000,
    size: int = 64,
    seed: int = 0,
) -> None:
    """Write simulated galaxies: images, what they are, and votes drawn from a known posterior.

    Parameters
    ----------
    out
        .hdf5, with `images` in nJy and a column for each parameter and answer.
    survey
        sdss or lsst: whose pixels, seeing and noise.
    tree
        The tree of questions that volunteers answer.
    n
        Number of galaxies.
    size
        Pixels on a side.
    """
    import h5py
    import numpy as np

    from deepfield.core.files import atomic
    from deepfield.morphology.simulate import simulate as draw

    if out.suffix.lower() not in (".hdf5", ".h5"):
        raise DeepfieldError(f"cannot write '{out}': end it in .hdf5")
    found = draw(n, survey=survey, tree_name=tree, size=size, seed=seed)
    with atomic(out) as temporary, h5py.File(temporary, "w") as file:
        file["images"] = found.images.numpy()
        for name in found.table.colnames:
            values = np.asarray(found.table[name])
            file.create_dataset(name, data=values.astype(bytes) if values.dtype.kind == "U" else values)
    print(f"{n:,} galaxies to {out}", file=sys.stderr)
