"""Run with the bare install: the public modules import, the core works, a missing extra is named."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import deepfield
from deepfield.core.errors import MissingExtraError
from deepfield.core.optional import require

assert "torch" not in sys.modules, "import deepfield loads torch"

from deepfield import core, data, morphology, photoz, physics, scale, trust  # noqa: E402, F401

rng = np.random.default_rng(0)
z = rng.uniform(0.01, 0.5, 400)
columns = {"z_spec": z} | {f"mag_{b}": 20 + k * z + 0.05 * rng.normal(size=400) for k, b in enumerate("gri")}
table = photoz.read(columns)
model = photoz.train(table, members=1, distil=False, epochs=2, progress=False)
folder = Path(tempfile.mkdtemp()) / "model"
model.save(folder)
assert np.isfinite(photoz.predict(photoz.load(folder), table).mean).all()

try:
    require("speclite", extra="photoz")
except MissingExtraError as error:
    assert "deepfield[photoz]" in str(error)
else:
    raise AssertionError("the bare install has an extra in it")
subprocess.run([Path(sys.executable).with_name("deepfield"), "--help"], check=True, stdout=subprocess.DEVNULL)
print(f"bare install of deepfield {deepfield.__version__}: 1 passed, 0 failed")
