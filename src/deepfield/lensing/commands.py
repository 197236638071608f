"""deepfield lensing: the verbs on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS, Json, show
from deepfield.data.images._options import Catalog, Column, Device, Scale, Stamps

if TYPE_CHECKING:
    from deepfield.data.images.serve import Counts

app = App(
    name="lensing",
    help="Strong lensing: cutouts in, the probability of a lens and its parameters out.",
    group_parameters=PARAMETERS,
    help_epilogue="Without a training:\n"
    "`deepfield lensing find lens-finder-lsst cutouts.hdf5 --out ranked.parquet`.\n\n"
    "To try it: `deepfield lensing simulate --survey lsst -n 200 --out cutouts.hdf5`.",
)

# Its options are the fields of LensingConfig, which is loaded when they are asked for.
app.command(
    "deepfield.lensing._train_command:train",
    name="train",
    help="Train p(lens | image) on sets of images or, with --survey, on fresh simulations; with --task measure, "
    "q(parameters | image of a lens).\n\n"
    "A killed training goes on where it stopped when the same command is given again.",
)


@app.command
def simulate(
    *,
    out: Path,
    survey: str = "lsst",
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 10000,
    lens_fraction: float = 0.5,
    size: int = 0,
    seed: int = 0,
) -> None:
    """Simulate lenses, and what is none, as a survey sees them, each with its truth.

    Parameters
    ----------
    out
        .hdf5, with `images` in nJy and a column for each parameter.
    survey
        lsst, euclid, des, cfhtls, hsc or hst: whose bands, pixels, seeing, depth and lenses.
    n
        Number of images.
    lens_fraction
        Share of lenses; the rest are galaxies, artefacts and what else fools finders.
    size
        Pixels on a side, even; by default 8 to 17 arcsec, by survey.
    """
    from deepfield.lensing.simulate import write

    count = write(out, n, survey=survey, lens_fraction=lens_fraction, size=size, seed=seed)
    print(f"{n:,} images, {count:,} of them lenses, to {out}", file=sys.stderr)


@app.command
def find(
    model: Path,
    images: Stamps,
    *,
    out: Path,
    prior: float = 1e-4,
    measurer: str = "",
    least: float = 0.5,
    catalog: Catalog = None,
    column: Column = "",
    pixel_scale: Scale = 0.0,
    device: Device = "auto",
    workers: int = 1,
) -> None:
    """Write how likely each image is a lens, with its rank, in the order of the images.

    Broken images get NaN and a reason. A killed run goes on where it stopped.

    Parameters
    ----------
    model
        A folder that `train` wrote, or the name of a model that comes with deepfield (`deepfield models`).
    out
        .parquet: `probability` at the training's share of lenses and its 68 % interval, `posterior` at the
        survey's, `rank`; with --measurer quantiles of the parameters.
    prior
        Share of lenses among the survey's galaxies.
    measurer
        A model that measures, for the images whose probability is --least or more.
    least
        Probability from which on --measurer measures.
    """
    from deepfield.lensing.predict import find_file

    counts = find_file(
        model, images, out, prior=prior, measurer=measurer or None, least=least, device=device, catalog=catalog,
        column=column or None, pixel_scale=pixel_scale, workers=workers,
    )  # fmt: skip
    _tell(counts, out)


@app.command
def measure(
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
    """Write the posterior of each lens: quantiles of theta_e, q, angle, shear and the source's place.

    Every image is taken to be of a lens. A killed run goes on where it stopped.

    Parameters
    ----------
    model
        A folder that `train --task measure` wrote, or the name of a model that comes with deepfield.
    out
        .parquet, with `theta_e_lo95`, `theta_e_lo68`, `theta_e_median`, `theta_e_hi68` (arcsec) and so on.
    """
    from deepfield.lensing.predict import measure_file

    counts = measure_file(
        model, images, out, device=device, catalog=catalog, column=column or None, pixel_scale=pixel_scale,
        workers=workers,
    )  # fmt: skip
    _tell(counts, out)


def _tell(counts: Counts, out: Path) -> None:
    more = f"; {counts.summary()}" if counts.unserved else ""
    print(f"{counts.rows:,} images to {out}{more}", file=sys.stderr)


@app.command
def score(found: Path, truth: Path, *, json: Json = False) -> None:
    """Compare what `find` or `measure` wrote with the truth, row by row.

    Parameters
    ----------
    found
        A file that `find` or `measure` wrote.
    truth
        The set that was searched, or a table: `is_lens`, or an expert's `grade`; of lenses their parameters.
    """
    from deepfield.lensing.score import score_file

    told = score_file(found, truth)
    show({name: s.to_dict() for name, s in told.items()}, "\n".join(str(s) for s in told.values()), as_json=json)
