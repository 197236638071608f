"""deepfield inside RAIL, the redshift pipeline of LSST DESC: an informer and an estimator (pz-rail-base 2).

In a notebook::

    from deepfield.photoz.rail import DeepfieldEstimator, DeepfieldInformer
    inform = DeepfieldInformer.make_stage(name="inform_deepfield", model="deepfield.pkl", hdf5_groupname="")
    model = inform.inform(training_table)
    estimate = DeepfieldEstimator.make_stage(name="deepfield", model=model, hdf5_groupname="")
    ensemble = estimate.estimate(test_table).data  # qp; ancil: zmode, zmean, zmedian, z_lo68, z_hi68

In a pipeline file the stages are ``deepfield.photoz.rail.DeepfieldInformer`` and ``...DeepfieldEstimator``.
The options ``bands``, ``err_bands``, ``nondetect_val``, ``nonobserved_val``, ``mag_limits``, ``redshift_col``
are obeyed; ``settings`` holds fields of ``PhotozConfig``, e.g. ``settings={"members": 1, "seed": 3}``. A model
trained elsewhere (``deepfield photoz train``) becomes RAIL's with ``write_rail_model("model/", "deepfield.pkl")``.

RAIL keeps models as pickles; what deepfield puts there is one string of bytes, the two files of a model folder,
which is verified when it is opened. RAIL unpickles it all the same: open no model file that you do not trust.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfield.core.errors import MissingExtraError, ModelError, TableError
from deepfield.core.files import atomic
from deepfield.core.store import META, WEIGHTS
from deepfield.core.table import Table, no_column, numbers
from deepfield.data.photometry import clean_magnitudes
from deepfield.photoz.export_qp import ensemble
from deepfield.photoz.model import PhotozConfig, PhotozModel
from deepfield.photoz.predict import columns_of, serve
from deepfield.photoz.train import train

_BAND = re.compile(r"mag_(?!err_)([^_]+)(_\w+)?", re.IGNORECASE)
_LARGEST = 2**31


def band_names(columns: Sequence[str]) -> tuple[str, ...]:
    """Short band names of magnitude columns; the columns themselves where these are not unique.

    Examples
    --------
    >>> band_names(["mag_u_lsst", "mag_g_lsst"]), band_names(["mag_r_lsst", "mag_r_hsc"])
    (('u', 'g'), ('mag_r_lsst', 'mag_r_hsc'))
    """
    found = tuple(m[1].lower() if (m := _BAND.fullmatch(c)) else c for c in columns)
    return found if len(set(found)) == len(found) else tuple(columns)


def standard_table(
    data: Any,
    bands: Sequence[str],
    err_bands: Sequence[str] = (),
    *,
    nondetect_val: float = 99.0,
    nonobserved_val: float = -99.0,
    mag_limits: Mapping[str, float] | None = None,
    redshift_col: str = "",
) -> Table:
    """RAIL's columns as a standard table of N rows; none is dropped or moved.

    Parameters
    ----------
    data : mapping or table
        Arrays (N,) by column name.
    bands, err_bands : list of str
        Magnitude columns (mag), and those of their errors in the same order; errors may be fewer or absent.
    nondetect_val, nonobserved_val : float
        Magnitudes that mean "not detected" and "not observed"; either may be NaN, and non-detection goes first.
    mag_limits : mapping, optional
        1-sigma limiting magnitudes by magnitude column, for rows without a detection.
    redshift_col : str
        Column to copy as ``z_spec``; empty for none.

    Raises
    ------
    TableError
        If a column is missing or holds text.

    Examples
    --------
    >>> data = {"mag_r_lsst": [20.0, 99.0, -99.0], "redshift": [0.1, 0.2, 0.3]}
    >>> table = standard_table(data, ["mag_r_lsst"], redshift_col="redshift")
    >>> table.column("mag_r"), table.column("z_spec")
    (array([20., inf, nan]), array([0.1, 0.2, 0.3]))
    """
    known = [str(name) for name in getattr(data, "colnames", None) or list(data.keys())]
    names = band_names(bands)
    table = Table()
    for band, column, error in zip(names, bands, [*err_bands, *[""] * len(bands)]):
        given = _column(data, column, known)
        values = given.copy()
        values[_is(given, nonobserved_val)] = np.nan
        values[_is(given, nondetect_val)] = np.inf
        errors = _column(data, error, known) if error in known else None
        mags, errs, limits, _ = clean_magnitudes(values, errors)
        table[f"mag_{band}"] = mags
        if errs is not None:
            table[f"mag_err_{band}"] = errs
        if limits is not None:
            table[f"mag_lim_{band}"] = limits
    if redshift_col:
        table["z_spec"] = _column(data, redshift_col, known)
    limits_of = mag_limits or {}
    table.meta["mag_lim"] = {b: float(limits_of[c]) for b, c in zip(names, bands) if c in limits_of}
    table.meta["bands"] = names
    return table


def _column(data: Any, name: str, known: list[str]) -> np.ndarray:
    if name not in known:
        raise TableError(no_column(name, known))
    return numbers(np.ma.asarray(data[name]), name).astype(np.float64)


def _is(values: np.ndarray, flag: float) -> np.ndarray:
    return np.isnan(values) if np.isnan(flag) else np.isclose(values, flag)


def pack(model: PhotozModel | str | os.PathLike[str]) -> bytes:
    """A model, or its folder, as bytes: an uncompressed zip of its two files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        (model if isinstance(model, PhotozModel) else PhotozModel.load(model)).save(folder)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name in (META, WEIGHTS):
                archive.writestr(name, (folder / name).read_bytes())
    return content.getvalue()


def unpack(content: Any) -> PhotozModel:
    """The inverse of :func:`pack`, with all checks of a model folder.

    Raises
    ------
    ModelError
        If ``content`` is something else, or damaged.
    """
    if not isinstance(content, bytes):
        raise ModelError(f"a model of DeepfieldInformer is bytes, this is a {type(content).__name__}")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in (META, WEIGHTS):
                    if archive.getinfo(name).file_size > _LARGEST:
                        raise ModelError(f"the model's {name} is absurdly large")
                    (Path(scratch) / name).write_bytes(archive.read(name))
        except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"this is no model of DeepfieldInformer, or it is damaged: {error}") from None
        return PhotozModel.load(scratch)


def write_rail_model(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a model folder of deepfield as a model file that RAIL's stages take."""
    with atomic(path) as temporary:
        temporary.write_bytes(pickle.dumps(pack(folder)))


_QUANTILES = {"z_q2p5": 0.025, "z_q16": 0.16, "z_median": 0.5, "z_q84": 0.84, "z_97p5": 0.975}


def estimate(model: PhotozModel, table: Table, *, summary: bool = False) -> Any:
    """A ``qp.Ensemble`` with zmode, zmean, zmedian, z_std, z_lo68, z_hi68 and reason_code for each row.

    With ``summary``, RAIL's summary statistics too, each (N, 1) under RAIL's names; qp's own moments of mixtures
    fail on current scipy.
    """
    prediction, why = serve(model, table)
    columns = columns_of(prediction, model) | {"reason_code": why.astype(np.int64)}
    if summary:
        found = dict(zip(_QUANTILES, prediction.quantile(list(_QUANTILES.values())).T))
        found |= {"z_mode": columns["zmode"], "z_mean": columns["zmean"], "z_std": columns["z_std"]}
        columns |= {name: np.asarray(values)[:, None] for name, values in found.items()}
    return ensemble(prediction, columns)


try:
    from ceci.config import StageParameter as Param
    from rail.core.common_params import SharedParams
    from rail.core.enums import DistributionType
    from rail.estimation.estimator import CatEstimator
    from rail.estimation.informer import CatInformer
except ImportError as _absent:
    _reason = str(_absent)

    def __getattr__(name: str) -> Any:
        if name in ("DeepfieldInformer", "DeepfieldEstimator"):
            raise MissingExtraError(f"{name} needs RAIL ({_reason}): pip install pz-rail-base")
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

else:
    _COLUMNS = ("bands", "err_bands", "nondetect_val", "nonobserved_val", "mag_limits", "redshift_col")

    def _options() -> dict[str, Any]:
        return {name: SharedParams.copy_param(name) for name in _COLUMNS}

    def _table(stage: Any, data: Any, redshift_col: str = "") -> Table:
        options = {name: stage.config[name] for name in _COLUMNS if name != "redshift_col"}
        return standard_table(stage._convert_table_format(data), **options, redshift_col=redshift_col)

    class DeepfieldInformer(CatInformer):
        """Train p(z | magnitudes), calibrated, for :class:`DeepfieldEstimator`."""

        name = "DeepfieldInformer"
        entrypoint_function = "inform"
        interactive_function = "deepfield_informer"
        config_options = CatInformer.config_options.copy()
        config_options.update(
            **_options(),
            settings=Param(dict, {}, msg="Fields of deepfield's PhotozConfig, e.g. members, epochs, seed"),
        )

        def run(self) -> None:
            """Train, and keep the model as bytes."""
            group, data = self.config.hdf5_groupname, self.get_data("input")
            table = _table(self, data[group] if group else data, self.config.redshift_col)
            settings = {**self.config.settings, "bands": tuple(table.meta["bands"])}
            self.model = pack(train(table, PhotozConfig(**settings), progress=False))
            self.add_data("model", self.model)

        def validate(self) -> None:
            """Whether the input has the columns."""
            self._get_stage_columns()
            self._check_column_names(self.get_handle("input", allow_missing=True), self.stage_columns)

        def _get_stage_columns(self) -> None:
            self.stage_columns = [*self.config.bands, self.config.redshift_col]

    class DeepfieldEstimator(CatEstimator):
        """Calibrated p(z) of every row by a model of :class:`DeepfieldInformer`, chunk by chunk."""

        name = "DeepfieldEstimator"
        entrypoint_function = "estimate"
        interactive_function = "deepfield_estimator"
        config_options = CatEstimator.config_options.copy()
        config_options.update(**_options())

        def open_model(self, **kwargs: Any) -> Any:
            """RAIL's handle, path or bytes; or a :class:`PhotozModel`."""
            content = CatEstimator.open_model(self, **kwargs)
            known = content is None or isinstance(content, PhotozModel)
            self.model: Any = content if known else unpack(content)
            return self.model

        def validate(self) -> None:
            """Whether the input has the columns."""
            self._get_stage_columns()
            self._check_column_names(self.get_handle("input", allow_missing=True), self.stage_columns)

        def _get_stage_columns(self) -> None:
            self.stage_columns = list(self.config.bands)

        @classmethod
        def default_distribution_type(cls) -> DistributionType:
            """Densities given the data, under the distribution of the training sample."""
            return DistributionType.posterior

        def _calculate_summary_stats(self, qp_dstn: Any) -> Any:
            return qp_dstn  # they are there already

        def _process_chunk(self, start: int, end: int, data: Any, first: bool) -> None:
            found = estimate(self.model, _table(self, data), summary=self.config.calc_summary_stats)
            self._do_chunk_output(found, start, end, first, data=data)
