"""Two processes over gloo: the same weights on both, and they learn."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch

from deepfield.core.devices import runtime
from deepfield.core.errors import MissingExtraError
from deepfield.core.optional import require

SCRIPT = textwrap.dedent("""
    import os, sys, torch
    from deepfield.core.batches import Batches
    from deepfield.core.fit import FitConfig, fit
    from deepfield.core.heads import GaussianMixture
    from deepfield.core.model import Model
    from deepfield.core.nets import ResidualMLP

    folder, processes = sys.argv[1], int(sys.argv[2])
    rank = int(os.environ.get("RANK", 0))
    torch.manual_seed(0)
    x = torch.rand(2000, 2)
    y = x[:, 0] - x[:, 1] + 0.1 * torch.randn(2000)
    torch.manual_seed(rank)  # what is global must not matter: rank 0's weights are everyone's
    head = GaussianMixture(1)
    model = Model(ResidualMLP(2, head.n_features, width=16, blocks=1, dropout=0.1), head)
    train = Batches(x[:1600], y[:1600], size=50, seed=0)
    held = Batches(x[1600:], y[1600:], size=64, seed=None)
    config = FitConfig(epochs=8, learning_rate=1e-2, device="cpu", processes=processes)
    history = fit(model, train, held, config, checkpoint=folder + "/fit.ckpt", progress=False)
    torch.save({"weights": model.state_dict(), "train": history.train, "validation": history.validation,
                "shares": [t.clone() for t, _ in train][0]}, f"{folder}/rank{rank}")
""")


def test_two_processes_agree_and_learn(tmp_path):
    pytest.importorskip("lightning_fabric")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    # What torchrun sets for each process.
    torchrun = {"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    running = [
        subprocess.Popen(
            [sys.executable, script, tmp_path, "2"],
            env={**os.environ, **shared, **torchrun, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in running:
        try:
            _, errors = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            for each in running:
                each.kill()
            raise
        assert process.returncode == 0, errors
    first, second = (torch.load(tmp_path / f"rank{rank}", weights_only=True) for rank in range(2))
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(v, second["weights"][k]) for k, v in first["weights"].items())
    assert first["train"] == second["train"] and first["validation"] == second["validation"]
    assert not torch.equal(first["shares"], second["shares"]), "both processes saw the same rows"
    # Entropy of the noise, 0.5 ln(2 pi e 0.01) = -0.884.
    assert first["validation"][-1] < -0.8 < 0 < first["validation"][0]
    assert (tmp_path / "fit.ckpt").exists()


def test_a_library_that_is_there_is_imported():
    import json

    assert require("json", extra="none") is json


def test_without_fabric_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepfield\[distributed\]'"):
        runtime("cpu", "32", 2)
