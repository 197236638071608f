"""The main job: a real catalogue in, a calibrated p(z) for every galaxy out, and a report for a referee."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfield.core import figures
from deepfield.core.errors import DataError, DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.core.report import Report
from deepfield.core.table import Table
from deepfield.data import registry
from deepfield.photoz.classical import NearestNeighbours, TemplateFit
from deepfield.photoz.model import PhotozConfig, PhotozModel
from deepfield.photoz.predict import predict
from deepfield.photoz.score import BEST, Score, scaled_error, score
from deepfield.photoz.simulate import simulate
from deepfield.photoz.train import train
from deepfield.trust import metrics

log = logging.getLogger("deepfield")
DEFAULT = "sdss_mgs"
_SHOWN = (
    "bias",
    "sigma_nmad",
    "outlier_fraction",
    "crps",
    "cde_loss",
    "pit_ks",
    "coverage_683",
    "coverage_955",
)
_LEVELS = np.linspace(0.02, 0.98, 49)
_BINS = (
    "Errors are those of the test rows alone: the finite calibration sample adds to that of the coverage, as much "
    "again or more. Coverage is guaranteed in thirds of the reference magnitude, not in bins of the true redshift."
)


def run(
    data: str | None = None,
    *,
    out: str | os.PathLike[str] = "report",
    config: PhotozConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Read, train, calibrate, score against the classical methods, and report.

    Parameters
    ----------
    data : str, optional
        A registered data set; without network or local copy of the default one, a simulated SDSS-like
        catalogue takes its place, and the report says so.
    out : path
        Folder for ``index.html``, ``report.json`` and the model.
    config : PhotozConfig, optional
    seed : int
        Of the split and the training.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    if Path(out).is_file():
        raise DeepfieldError(f"--out {out} is a file; give a folder")
    began = time.perf_counter()
    table, source = _data(data, seed)
    rows, test = table.split(0.7, seed=seed)
    log.info("%s: %s rows to train and calibrate on, %s to test on", source, len(rows), len(test))
    model = train(rows, config or PhotozConfig(seed=seed), progress=progress)
    trained = time.perf_counter() - began
    model.save(Path(out) / "model")
    clock = time.perf_counter()
    densities: dict[str, Prediction] = {"deepfield": predict(model, test)}
    rate = len(test) / (time.perf_counter() - clock)
    log.info("trained in %.0f s; now the classical methods", trained)
    densities |= _classical(rows, test, model.bands)
    scores = {name: score(density, test) for name, density in densities.items()}
    report = Report(
        "Photometric redshifts",
        f"{source}: {len(test):,} galaxies the model has not seen, of {len(table):,}",
        began=began,
    )
    report.facts(
        {
            "data": source,
            "citation": "simulated by deepfield" if data is None and "simulated" in source else _citation(source),
            "split": f"{len(rows):,} rows to train, stop and calibrate; {len(test):,} for this report",
            "seed": seed,
            "bands": ", ".join(model.bands),
            "training": f"{trained:.0f} s",
            "prediction": f"{rate:,.0f} galaxies per second",
        }
    )
    _tables(report, scores)
    _figures(report, densities, test, model)
    return report.write(out)


def _data(name: str | None, seed: int) -> tuple[Table, str]:
    try:
        table = registry.load(name or DEFAULT)
    except DataError as error:
        if name is not None:
            raise
        log.warning("%s; going on with a simulated catalogue", error)
        return simulate(20_000, survey="sdss", seed=seed), "simulated SDSS-like catalogue"
    if "secure" in table.colnames:  # a wrong truth teaches and scores wrongly
        secure = np.asarray(table["secure"], dtype=bool)
        log.info("%s rows whose redshift is not secure are left out", (~secure).sum())
        table = table[secure]
    return table, name or DEFAULT


def _citation(name: str) -> str:
    entry = registry.dataset(name)
    return f"{entry.citation} ({entry.licence})"


def _classical(rows: Table, test: Table, bands: Sequence[str]) -> dict[str, Prediction]:
    """The methods to beat; one that cannot serve these bands is left out with a message."""
    fitted, held_out = rows.split(0.9, seed=0)
    found = {}
    for name, method in (("nearest neighbours", NearestNeighbours()), ("template fit", TemplateFit())):
        try:
            found[name] = method.fit(fitted, held_out).predict(test)
        except ValueError as error:
            log.warning("no %s: %s", name, error)
    return found


def _tables(report: Report, scores: dict[str, Score]) -> None:
    rows = [{"method": name, **{k: s.metrics[k] for k in _SHOWN if k in s.metrics}} for name, s in scores.items()]
    report.table(
        "metrics",
        rows,
        "Scores on the test rows with bootstrap errors. dz = (z_phot - z_spec) / (1 + z_spec), z_phot the mode of "
        "the density; outliers have |dz| > 0.15. CRPS, CDE loss and PIT KS: smaller is better; coverage: 0.683 "
        "and 0.955 are right. The best, and what ties with it, is bold. The classical methods are as they come, "
        "without calibration; the intervals of deepfield are its conformal ones.",
        best=BEST,
    )
    for column, bins in scores["deepfield"].bins.items():
        lines = [
            {
                column: f"{row['low']:.3g} to {row['high']:.3g}",
                "galaxies": row["n"],
                **{k: row["metrics"][k] for k in _SHOWN if k in row["metrics"]},
            }
            for row in bins
        ]
        report.table(f"by_{column}", lines, f"The same for deepfield in bins of {column}. {_BINS}")


def _figures(report: Report, densities: dict[str, Prediction], test: Table, model: PhotozModel) -> None:
    ours, z = densities["deepfield"], test.column("z_spec")
    point = ours.mode
    pits = {name: metrics.pit(density, z) for name, density in densities.items()}
    report.figure(
        "z_phot_z_spec",
        figures.density_scatter(z, point),
        "Photometric against spectroscopic redshift; the dashed lines bound |dz| = 0.15.",
    )
    report.figure(
        "pit",
        figures.pit_histogram(pits["deepfield"]),
        "Probability integral transform: flat within the band if the densities are calibrated.",
    )
    curves = {name: metrics.pit_coverage(pit[~np.isnan(pit)], _LEVELS) for name, pit in pits.items()}
    report.figure(
        "coverage",
        figures.coverage_curve(_LEVELS, curves, n=len(z)),
        "Share of the truths inside the central intervals of the densities, before conformal correction, against "
        "their nominal level.",
    )
    report.figure("examples", figures.example_densities(ours, z), "Densities of test galaxies, truths as lines.")
    report.figure(
        "error_redshift",
        figures.error_against(z, scaled_error(point, z), xlabel="spectroscopic redshift"),
        "Bias, scatter and outliers against redshift.",
    )
    reference = f"mag_{model.reference}"
    if reference in test.colnames:
        report.figure(
            "error_magnitude",
            figures.error_against(
                test.column(reference), scaled_error(point, z), xlabel=f"{model.reference} [mag]"
            ),
            "The same against magnitude.",
        )
    report.figure(
        "training",
        figures.training_curves(model.card["history"]),
        "Loss of each epoch: on the training rows, and on held-out rows with averaged weights. The student's is "
        "another loss, its distance from the members' average, and cannot be compared with theirs.",
    )
