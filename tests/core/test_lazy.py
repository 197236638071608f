"""Lazy packages: functions stay functions whatever is imported, and only what is touched is loaded."""

import subprocess
import sys

import pytest

from deepfield import morphology, photoz

WATCH = "import sys, deepfield.{0} as room; print('torch' in sys.modules); room.{1}; print('torch' in sys.modules)"


@pytest.mark.parametrize("room", [photoz, morphology], ids=lambda r: r.__name__)
def test_files_do_not_hide_functions_of_their_name(room):
    __import__(f"{room.__name__}.predict")
    __import__(f"{room.__name__}.train")
    assert callable(room.predict) and callable(room.train) and callable(room.load)
    assert all(hasattr(room, name) for name in room.__all__)
    assert set(room.__all__) <= set(dir(room))  # so that a shell completes them


@pytest.mark.parametrize("room", [photoz, morphology], ids=lambda r: r.__name__)
def test_a_name_that_is_not_there_is_an_attribute_error(room):
    with pytest.raises(AttributeError, match=f"module '{room.__name__}' has no attribute 'nothing'"):
        room.nothing  # noqa: B018


@pytest.mark.parametrize(("room", "name"), [("photoz", "PhotozModel"), ("morphology", "MorphologyModel")])
def test_torch_comes_with_the_first_name(room, name):
    run = subprocess.run(
        [sys.executable, "-c", WATCH.format(room, name)], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "True"]
