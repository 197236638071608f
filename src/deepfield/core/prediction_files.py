"""Predictions on disk: Parquet or HDF5, features and head together, so that reading one needs no model."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from deepfield.core.calibrators import Conformal, PITMap
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.files import atomic
from deepfield.core.heads import build_head
from deepfield.core.prediction import Prediction

KEY = "deepfield_prediction"
_RESERVED = ("features", "group")


def describe(prediction: Prediction) -> str:
    """Head, its state and the calibration as one line of JSON."""
    state = {k: v.cpu().contiguous() for k, v in prediction.head.state_dict().items()}
    content = {
        "format": 1,
        "head": prediction.head.config,
        "state": base64.b64encode(save_tensors(state)).decode(),
        "pit_map": None if prediction.pit_map is None else prediction.pit_map.to_dict(),
        "conformal": None if prediction.conformal is None else prediction.conformal.to_dict(),
    }
    return json.dumps(content)


def rebuild(description: str, features: ArrayLike, group: ArrayLike | None) -> Prediction:
    """The inverse of :func:`describe`."""
    try:
        content = json.loads(description)
        version = content["format"]
        if version > 1:
            raise ModelError(f"the prediction has format {version}, newer than this deepfield: upgrade")
        head = build_head(content["head"])
        head.load_state_dict(load_tensors(base64.b64decode(content["state"])))
        pit_map = content["pit_map"] and PITMap.from_dict(content["pit_map"])
        conformal = content["conformal"] and Conformal.from_dict(content["conformal"])
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DeepfieldError(f"the prediction's description is damaged: {error}") from None
    values = np.array(features, dtype=np.float32)
    return Prediction(head, values, pit_map=pit_map, conformal=conformal, group=group)


def write(prediction: Prediction, path: str | os.PathLike[str], columns: dict[str, ArrayLike]) -> None:
    """Features, group and ``columns`` (each N long) to ``.parquet`` or ``.hdf5``."""
    for name, values in columns.items():
        if name in _RESERVED or len(np.asarray(values)) != len(prediction):
            raise DeepfieldError(f"column '{name}' is reserved or has not {len(prediction)} rows")
    suffix = Path(path).suffix.lower()
    writer = {".parquet": _write_parquet, ".hdf5": _write_hdf5, ".h5": _write_hdf5}.get(suffix)
    if writer is None:
        raise DeepfieldError(f"a prediction is written to .parquet or .hdf5, not to '{path}'")
    with atomic(path) as temporary:
        writer(prediction, temporary, {k: np.asarray(v) for k, v in columns.items()})


def feature_column(features: np.ndarray) -> Any:
    """Rows of floats as one Arrow column of fixed-size lists."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(features, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, features.shape[1])


def _write_parquet(prediction: Prediction, path: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {k: pa.array(v) for k, v in columns.items()}
    arrays["features"] = feature_column(prediction.features.numpy())
    if prediction.group is not None:
        arrays["group"] = pa.array(prediction.group)
    pq.write_table(pa.table(arrays).replace_schema_metadata({KEY: describe(prediction)}), path)


def _write_hdf5(prediction: Prediction, path: Path, columns: dict[str, np.ndarray]) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            text = values.dtype.kind in "UO"
            data, kind = (values.astype(object), h5py.string_dtype()) if text else (values, None)
            file.create_dataset(name, data=data, dtype=kind)
        file["features"] = prediction.features.numpy()
        if prediction.group is not None:
            file["group"] = prediction.group
        # An attribute holds 64 kB at most; a flow's weights need a dataset.
        file.create_dataset(KEY, data=describe(prediction), dtype=h5py.string_dtype())


def read(path: str | os.PathLike[str]) -> tuple[Prediction, dict[str, np.ndarray]]:
    """A prediction and the columns beside it.

    Raises
    ------
    DeepfieldError
        If the file is missing, damaged or holds no prediction of deepfield.
    """
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file():
        raise DeepfieldError(f"no prediction at {path}: the file does not exist")
    reader = {".parquet": _read_parquet, ".hdf5": _read_hdf5, ".h5": _read_hdf5}.get(suffix)
    if reader is None:
        raise DeepfieldError(f"a prediction is read from .parquet or .hdf5, not from '{path}'")
    try:
        description, columns = reader(Path(path))
        features, group = columns.pop("features"), columns.pop("group", None)
    except DeepfieldError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DeepfieldError(f"{path} holds no deepfield prediction, or is damaged ({error})") from None
    return rebuild(description, features, group), columns


def _read_parquet(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    metadata = (table.schema.metadata or {})[KEY.encode()].decode()
    columns = {n: table[n].to_numpy() for n in table.column_names if n != "features"}
    features = table["features"].combine_chunks()
    columns["features"] = features.flatten().to_numpy().reshape(table.num_rows, features.type.list_size)
    return metadata, columns


def _read_hdf5(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    import h5py

    with h5py.File(path, "r") as file:
        if KEY not in file and {"meta", "data"} <= set(file):
            raise DeepfieldError(
                f"{path} is the qp form of a prediction, for other tools: read it with qp.read, score it with "
                "photoz.score; Prediction.read takes what Prediction.write wrote, or .parquet of a predict command"
            )
        columns = {n: file[n].asstr()[()] if file[n].dtype.kind == "O" else file[n][()] for n in file if n != KEY}
        return file[KEY].asstr()[()], columns
