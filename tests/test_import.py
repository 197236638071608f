"""``import deepfield`` costs nothing, and the command line answers at once."""

import subprocess
import sys
from pathlib import Path

import pytest

import deepfield

HEAVY = (
    "torch", "numpy", "scipy", "astropy", "pyarrow", "pandas", "h5py", "zuko", "matplotlib", "sklearn",
    "cyclopts", "tqdm", "pooch", "safetensors", "onnx",
)  # fmt: skip


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing_heavy():
    found = python(f"import sys, deepfield; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert found == "[]"


def test_import_takes_less_than_a_tenth_of_a_second():
    # Processor time, best of five: what other programs do at the same moment does not count.
    code = "import time; a = time.process_time(); import deepfield; print(time.process_time() - a)"
    assert min(float(python(code)) for _ in range(5)) < 0.1


def test_dir_and_attributes_load_rooms_when_touched():
    listed = python("import deepfield; print(*dir(deepfield))").split()
    assert set(listed) == {
        "SCIENCES",
        "__version__",
        "core",
        "data",
        "physics",
        "scale",
        "trust",
        *deepfield.SCIENCES,
    }
    assert listed == sorted(listed)
    loaded = python(
        "import sys, deepfield; before = 'deepfield.core' in sys.modules; deepfield.core; "
        "print(before, 'deepfield.core' in sys.modules, 'torch' in sys.modules)"
    )
    assert loaded == "False True False"
    with pytest.raises(AttributeError, match="module 'deepfield' has no attribute 'astrology'"):
        deepfield.astrology  # noqa: B018


def test_everything_listed_exists():
    for name in dir(deepfield):
        assert getattr(deepfield, name) is not None


@pytest.mark.parametrize("how", ["script", "module"])
def test_help_answers_without_torch(how):
    if how == "script":
        script = Path(sys.executable).with_name("deepfield")
        if not script.exists():
            pytest.skip("deepfield is not installed as a script")
        done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        text = done.stdout
    else:
        text = python(
            "import sys; from deepfield.cli import main; code = main(['--help']); "
            "print('heavy:', code, *[m for m in ('torch', 'astropy', 'pyarrow') if m in sys.modules])"
        )
        assert text.endswith("heavy: 0")
    for word in ("photoz", "data", "export", "run", "Start here"):
        assert word in text


def test_a_science_explains_itself_without_torch():
    text = python(
        "import sys, time; began = time.process_time(); "
        "from deepfield.cli import main; main(['photoz', '--help']); spent = time.process_time() - began; "
        "print('heavy:', spent < 1, *[m for m in ('torch', 'astropy', 'pyarrow', 'scipy') if m in sys.modules])"
    )
    assert text.endswith("heavy: True")
    for verb in ("train", "predict", "score", "simulate", "Train p(z | magnitudes)"):
        assert verb in text


def test_functions_of_a_science_are_not_hidden_by_files_of_their_names():
    names = "('predict', 'read', 'run', 'score', 'simulate', 'train')"
    code = f"""
import importlib
from deepfield.photoz.predict import predict_file
for name in {names}:
    importlib.import_module('deepfield.photoz.' + name)
from deepfield import photoz
print(*[name for name in {names} if getattr(photoz, name).__module__ != 'deepfield.photoz.' + name], photoz.load)
"""
    assert python(code).startswith("<bound method PhotozModel.load")


def test_version():
    assert python("from deepfield.cli import main; main(['--version'])") == deepfield.__version__
