"""The triangle: its regions hold what they say, and it takes one or many parameters."""

import io

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.core.triangles import region_levels, triangle

pytest.importorskip("matplotlib")


def test_regions_hold_their_share():
    x = np.random.default_rng(0).normal(size=(200_000, 2))
    density, *_ = np.histogram2d(x[:, 0], x[:, 1], 80, [[-4, 4], [-4, 4]])
    outer, inner = region_levels(density, (0.95, 0.68))
    assert density[density >= outer].sum() / density.sum() == pytest.approx(0.95, abs=0.01)
    # Of a Gaussian in two dimensions the 68 % region has the area 2 pi ln(1 / 0.32).
    assert (density >= inner).sum() * 0.01 == pytest.approx(2 * np.pi * np.log(1 / 0.32), rel=0.05)


@pytest.mark.parametrize("dim", [1, 3])
def test_it_draws(dim):
    rng = np.random.default_rng(0)
    sets = {"exact": rng.normal(size=(800, dim)), "NPE": rng.normal(0.2, 1.1, size=(900, dim))}
    figure = triangle(sets, [f"p{i}" for i in range(dim)], truth=np.zeros(dim))
    assert len(figure.axes) == dim * (dim + 1) // 2
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")


def test_shapes():
    with pytest.raises(DeepfieldError, match=r"draws of 'a' have shape \(5, 3\); 2 parameters"):
        triangle({"a": np.zeros((5, 3))}, ["x", "y"])
