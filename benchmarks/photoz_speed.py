"""How fast: magnitudes to mixture parameters on one core, and Parquet to Parquet on all.

    python benchmarks/photoz_speed.py --rows 20000000 --peers DIR

Writes benchmarks/results/photoz_speed.json. The catalogue repeats BOSS with float32 magnitudes and errors, and is
read into the standard table, cleaned and converted within every rate. Rates of one core are per second of
processor time, of all cores per second of wall time with a thread for each; best of three. Rates of the peers are
those that photoz_peers.py measured on BOSS, seed 0: a peer's own output without a grid ("native") and densities on
a grid.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from photoz_data import load

from deepfield import photoz
from deepfield.core.report import machine
from deepfield.core.table import Table
from deepfield.photoz.predict import open_model

ROOT = Path(__file__).parent
CHILD = """
import resource, sys, time
from deepfield.photoz.predict import predict_file
began = time.perf_counter()
predict_file(*sys.argv[1:4], engine=sys.argv[4], progress=False)
used = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def columns(rows: int) -> dict[str, np.ndarray]:
    """BOSS again and again."""
    catalog = load("boss")
    again = np.resize(np.arange(len(catalog["z"])), rows)
    found = {"z_spec": catalog["z"][again].astype(np.float32)}
    for b, band in enumerate(catalog["bands"]):
        found[f"mag_{band}"] = catalog["mag"][again, b].astype(np.float32)
        found[f"mag_err_{band}"] = catalog["err"][again, b].astype(np.float32)
    return found


def mixtures(model: Any, batches: list[dict[str, np.ndarray]]) -> None:
    """A catalogue's columns to weights, means and widths, the way a user goes: read, encode, predict."""
    with torch.no_grad():
        for batch in batches:
            table = photoz.read(batch)
            density: Any = model.model.predict(model.encode(table)).distribution()
            assert density.weights.shape == density.means.shape == density.stds.shape


def mixture_rates(folder: Path, engine: str, rows: int = 2_097_152, size: int = 65_536) -> dict[str, float]:
    """Objects per second of one core's processor time, and per second of wall time with a thread for each core."""
    models = [open_model(folder, engine)[0] for _ in range(os.cpu_count() or 1)]
    whole = columns(rows)
    batches = [{name: c[i : i + size] for name, c in whole.items()} for i in range(0, rows, size)]
    mixtures(models[0], batches[:2])
    one = both = np.inf
    for _ in range(3):
        start = time.process_time()
        mixtures(models[0], batches)
        one = min(one, time.process_time() - start)
        start = time.perf_counter()
        with ThreadPoolExecutor(len(models)) as pool:
            shares = (batches[k :: len(models)] for k in range(len(models)))
            list(pool.map(mixtures, models, shares))
        both = min(both, time.perf_counter() - start)
    return {"core": rows / one, "all": rows / both}


def file_to_file(folder: Path, rows: int, engine: str) -> dict[str, Any]:
    """Seconds and peak memory of a process that streams one Parquet file into another."""
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        source, target = Path(scratch) / "in.parquet", Path(scratch) / "out.parquet"
        block = pa.table(columns(1_000_000))
        with pq.ParquetWriter(source, block.schema) as writer:
            for start in range(0, rows, len(block)):
                writer.write_table(block.slice(0, min(len(block), rows - start)), row_group_size=250_000)
        command = [sys.executable, "-c", CHILD, str(folder), str(source), str(target), engine]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-3:]
        assert pq.read_metadata(target).num_rows == rows
    seconds, busy, memory = map(float, said)
    return {"rows": rows, "seconds": seconds, "rate": rows / seconds, "cpu_seconds": busy, "peak_mb": memory}


def train(folder: Path, quick: bool) -> float:
    """Wall seconds to train on BOSS, 70 % of its rows."""
    table = photoz.read(Table(columns(16_218)))
    began = time.perf_counter()
    options = {"members": 1, "distil": False} if quick else {}
    photoz.train(table, progress=False, **options).save(folder)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--peers", type=Path, default=ROOT / "work")
    parser.add_argument("--skip-default", action="store_true", help="train the quick model alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        found["train_quick_s"] = train(folder, quick=True)
        if not options.skip_default:
            found["train_s"] = train(folder, quick=False)
        for engine in ("torch", "onnx"):
            rates = mixture_rates(folder, engine)
            found |= {f"rate_{engine}": rates["core"], f"rate_{engine}_all": rates["all"]}
            print(engine, rates, flush=True)
        found["stream"] = file_to_file(folder, options.rows, "onnx")
    for peer in ("flexzboost", "gpz"):
        note = options.peers / "boss" / "0" / f"{peer}.json"
        if note.is_file():
            content = json.loads(note.read_text())
            found[peer] = {k: content[k] for k in ("rate_native", "rate_pdf")}
    stream = found["stream"]
    default = {"train on BOSS, default, wall seconds": f"{found['train_s']:.0f}"} if "train_s" in found else {}
    lines = default | {
        "train on BOSS, `--quick`, wall seconds": f"{found['train_quick_s']:.0f}",
        "magnitudes to mixture parameters, torch, objects per core-second": f"{found['rate_torch']:,.0f}",
        "the same, all cores, objects per second": f"{found['rate_torch_all']:,.0f}",
        "magnitudes to mixture parameters, onnxruntime, objects per core-second": f"{found['rate_onnx']:,.0f}",
        "onnxruntime, all cores, objects per second": f"{found['rate_onnx_all']:,.0f}",
        "Parquet to Parquet, onnxruntime, all cores": f"{stream['rate']:,.0f} rows per second",
        "processor time of that": f"{1e6 * stream['cpu_seconds'] / stream['rows']:.2f} microseconds per row",
        "peak memory of that": f"{stream['peak_mb']:,.0f} MB",
    }
    for peer, rates in ((p, found[p]) for p in ("flexzboost", "gpz") if p in found):
        for kind, label in (("rate_pdf", "densities on a grid"), ("rate_native", "own parameters")):
            ratio = found["rate_onnx"] / rates[kind]
            lines[f"{peer}, {label}, objects per core-second"] = (
                f"{rates[kind]:,.0f} (deepfield: {ratio:,.0f} times)"
            )
    about = machine()
    note = "Measured in one run; rates are of one core and per second of processor time where they say so."
    content = {
        "machine": f"{about['processor']}, {about['cores']} cores",
        "note": note,
        "lines": lines,
        "numbers": found,
    }
    out = ROOT / "results" / "photoz_speed.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(content, indent=1))
    print(json.dumps(lines, indent=1))


if __name__ == "__main__":
    main()
