"""Saved models: a folder with ``weights.safetensors`` and ``model.json``. Nothing in it can run code.

``model.json`` names the format, the domain (which science builds the model), the configuration, what the model was
trained on and how well it did, the sha256 of the weights and of itself, so that a folder is whole or refused.
These digests find damage and careless edits; they are no signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import deepfield
from deepfield.core.errors import ModelError
from deepfield.core.files import atomic, exclusive

log = logging.getLogger("deepfield")

FORMAT = 1
WEIGHTS, META = "weights.safetensors", "model.json"
_PACKAGE = Path(__file__).parents[1]
_LARGEST_META = 64 * 2**20


@dataclass(frozen=True)
class Saved:
    """What a model folder holds.

    Parameters
    ----------
    domain : str
        The science that builds it, e.g. "photoz".
    config : dict
        All that ``build`` needs, plain JSON.
    weights : dict of Tensor
        The state of the model.
    card : dict
        Training data digest, metrics, seeds, versions, calibration: plain JSON.
    """

    domain: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)


def checked_folder(folder: str | os.PathLike[str]) -> Path:
    """Where a model may be written: nothing is there, or an empty folder, or a model.

    Raises
    ------
    ModelError
        If something else is there.
    """
    target = Path(folder)
    if target.exists() and not (target.is_dir() and ((target / META).exists() or not any(target.iterdir()))):
        raise ModelError(f"{target} exists and is not a deepfield model; choose another --out or remove it")
    return target


def save(folder: str | os.PathLike[str], saved: Saved) -> Path:
    """Write a model folder, whole or not at all; an older model of that name is replaced.

    Raises
    ------
    ModelError
        If ``folder`` exists and is something else than a model.
    """
    target = checked_folder(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = save_tensors({k: v.detach().cpu().contiguous() for k, v in saved.weights.items()})
    meta = {
        "format": FORMAT,
        "domain": saved.domain,
        "config": saved.config,
        "card": saved.card,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    meta = _plain(meta)
    meta["sha256"] = seal(meta)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        (scratch / WEIGHTS).write_bytes(weights)
        (scratch / META).write_text(json.dumps(meta, indent=1, allow_nan=False))
        scratch.chmod(0o755)
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            os.replace(target, retired / "model")
            try:
                os.replace(scratch, target)
            except OSError:
                os.replace(retired / "model", target)
                retired.rmdir()
                raise
            shutil.rmtree(retired, ignore_errors=True)
        else:
            os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def shipped() -> dict[str, Path]:
    """Folders of the models that come with the package, by name.

    Examples
    --------
    >>> all((folder / WEIGHTS).is_file() for folder in shipped().values())
    True
    """
    return {path.parent.name: path.parent for path in sorted(_PACKAGE.glob(f"*/weights/*/{META}"))}


def find(model: str | os.PathLike[str]) -> Path:
    """The folder of a model, given by its path or, for one that comes with the package, by its name."""
    path = Path(model)
    return path if path.exists() else shipped().get(str(model), path)


def load(folder: str | os.PathLike[str], *, domain: str | None = None) -> Saved:
    """Read and verify a model folder, or one of :func:`shipped` by its name.

    Raises
    ------
    ModelError
        If the folder is missing, incomplete, truncated, tampered with, of another domain or a newer format.
    """
    path = find(folder)
    if not path.exists():
        known = f"; models that come with deepfield: {', '.join(shipped())}" if shipped() else ""
        raise ModelError(f"no model at {path}: the folder does not exist{known}")
    if not path.is_dir():
        raise ModelError(f"{path} is a file; a model is a folder with {META} and {WEIGHTS}")
    meta = _read_meta(path / META)
    if domain is not None and meta["domain"] != domain:
        raise ModelError(f"{path} is a model of '{meta['domain']}', not of '{domain}'")
    weights_path = path / WEIGHTS
    if not weights_path.is_file():
        raise ModelError(f"{path} has no {WEIGHTS}: the model is incomplete; copy or train it again")
    content = weights_path.read_bytes()
    if hashlib.sha256(content).hexdigest() != meta["weights_sha256"]:
        raise ModelError(
            f"{weights_path} is not what {META} says it is: truncated or changed; copy the model again"
        )
    try:
        weights = load_tensors(content)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise ModelError(f"{weights_path} is not a safetensors file: {error}") from None
    return Saved(meta["domain"], meta["config"], weights, meta["card"])


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"{path.parent} has no {META}: it is not a deepfield model")
    if path.stat().st_size > _LARGEST_META:
        raise ModelError(f"{path} has {path.stat().st_size} bytes; no {META} is that large")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}): truncated or changed; copy the model again") from None
    if not isinstance(meta, dict):
        raise ModelError(f"{path} holds a {type(meta).__name__}, not an object; it is not a deepfield model")
    version = meta.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"{path} names no format; it is not a deepfield model")
    if version > FORMAT:
        raise ModelError(f"{path} has format {version}, this deepfield reads up to {FORMAT}: upgrade deepfield")
    kinds = {"domain": str, "config": dict, "card": dict, "weights_sha256": str}
    for key, kind in kinds.items():
        if not isinstance(meta.get(key), kind):
            raise ModelError(f"{path} lacks '{key}' or has it wrong: truncated or changed; copy the model again")
    if meta.get("sha256") != seal(meta):
        raise ModelError(f"{path} was changed after it was written; copy or train the model again")
    return meta


def seal(meta: dict[str, Any]) -> str:
    """The sha256 of the content of ``model.json``, its own ``sha256`` left out."""
    content = {k: v for k, v in meta.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def restore(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights into a freshly built module.

    Raises
    ------
    ModelError
        If a tensor is missing, left over, of another shape or not finite.
    """
    state = module.state_dict()
    if missing := sorted(set(state) - set(weights)):
        raise ModelError(f"the weights lack {len(missing)} tensors, first '{missing[0]}'")
    if extra := sorted(set(weights) - set(state)):
        raise ModelError(f"the weights have {len(extra)} tensors that the model has not, first '{extra[0]}'")
    for name, tensor in weights.items():
        if tensor.shape != state[name].shape:
            shapes = f"{tuple(tensor.shape)}, the configuration asks for {tuple(state[name].shape)}"
            raise ModelError(f"tensor '{name}' has shape {shapes}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"tensor '{name}' holds NaN or infinite values")
    module.load_state_dict(weights)


def revive(
    folder: str | os.PathLike[str], domain: str, rebuild: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> Any:
    """The model of a folder: ``rebuild(config, card)`` with its ``model`` holding the weights, ready to be asked.

    Raises
    ------
    ModelError
        If the folder is not whole, or of another domain.
    """
    saved = load(folder, domain=domain)
    found = rebuild(saved.config, saved.card)
    restore(found.model, saved.weights)
    found.model.eval()
    return found


def versions() -> dict[str, str]:
    """What a model was made with, for its card."""
    return {
        "deepfield": deepfield.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def checkpoints(target: str | os.PathLike[str], job: dict[str, Any]) -> Iterator[Path]:
    """A folder beside ``target`` for the checkpoints of its training, kept to this process, gone with the block.

    The fit itself does not know of the batches, their augmentation or where the data came from: ``job`` says so,
    and is noted in the folder. After an error or a kill the folder stays, for the same job to go on.

    Raises
    ------
    DeepfieldError
        If another process trains into ``target``.
    ModelError
        If the folder holds the checkpoints of another job.

    Examples
    --------
    >>> with checkpoints(Path(tempfile.mkdtemp()) / "model", {"seed": 1}) as folder:
    ...     folder.name
    '.model.checkpoints'
    """
    path = Path(target)
    with exclusive(path.with_name(f".{path.name}.checkpoints"), f"'{path}'") as folder:
        note, text = folder / "job.json", json.dumps(_plain(job), sort_keys=True)
        if note.is_file() and note.read_text() != text and any(folder.glob("*.ckpt")):
            raise ModelError(
                f"{folder} belongs to a training with other settings or data; delete it to start anew"
            )
        with atomic(note) as temporary:
            temporary.write_text(text)
        if path.exists():
            log.warning("'%s' exists: it is replaced when the training is done", path)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def settings(stored: Any, config: type) -> dict[str, Any]:
    """The stored settings of a ``config`` dataclass, as keywords.

    Raises
    ------
    ModelError
        If there are some that this version does not know.
    """
    raw = dict(stored)
    if unknown := set(raw) - {f.name for f in fields(config)}:
        raise ModelError(f"the model has settings unknown to this version: {', '.join(sorted(unknown))}")
    return raw


def _plain(value: Any) -> Any:
    """JSON without NaN: a number that is none becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
