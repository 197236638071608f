"""The encoding of data: scales, heavy tails, constants, shapes."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.inference.encoding import Encoding


def test_what_comes_out_is_of_order_one_whatever_goes_in():
    rng = np.random.default_rng(0)
    x = np.stack([1e6 + rng.normal(size=3000), 1e-5 * rng.normal(size=3000), np.exp(4 * rng.normal(size=3000))], 1)
    encoding = Encoding.fit(x)
    y = encoding(x).numpy()
    assert np.allclose(y.mean(0), 0, atol=1e-3) and np.allclose(y.std(0), 1, atol=1e-3)
    assert encoding.heavy.tolist() == [False, False, True] and np.abs(y).max() < 10
    order = np.argsort(x[:, 2])
    assert (np.diff(y[order, 2]) >= 0).all(), "one to one"


def test_constant_columns_are_left_out(caplog):
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[:, 1] = 5.0
    encoding = Encoding.fit(x)
    assert encoding.dim == 2 and encoding(x).shape == (100, 2) and "1 of 3 columns" in caplog.text
    with pytest.raises(DeepfieldError, match="the same in every simulation"):
        Encoding.fit(np.ones((100, 2)))


def test_a_column_that_is_mostly_zero_is_kept():
    x = np.zeros((1000, 1))
    x[:40, 0] = np.arange(40)
    assert np.isfinite(Encoding.fit(x)(x).numpy()).all()


def test_maps_have_a_scale_for_each_channel():
    x = np.random.default_rng(0).normal(size=(20, 2, 8, 8)) * np.array([1.0, 100.0])[:, None, None]
    encoding = Encoding.fit(x)
    y = encoding(x)
    assert encoding.kind == "maps" and y.shape == (20, 2, 8, 8) and np.allclose(y.std((0, 2, 3)), 1, atol=0.01)
    assert encoding(x[0]).shape == (1, 2, 8, 8)


def test_sequences_have_a_scale_for_each_channel(caplog):
    x = np.random.default_rng(0).normal(size=(20, 2, 50)) * np.array([1.0, 100.0])[:, None]
    encoding = Encoding.fit(x)
    y = encoding(x)
    assert encoding.kind == "sequences" and y.shape == (20, 2, 50) and np.allclose(y.std((0, 2)), 1, atol=0.01)
    assert np.array_equal(Encoding.from_dict(encoding.to_dict())(x[0]), y[:1]) and not caplog.text
    Encoding.fit(x[:, :, :2])
    assert "read as sequences of 2 channels and length 2" in caplog.text, "or are they maps?"


def test_shapes_and_round_trip():
    x = np.random.default_rng(0).normal(size=(50, 3))
    encoding = Encoding.fit(x)
    again = Encoding.from_dict(encoding.to_dict())
    assert np.array_equal(again(x), encoding(x))
    with pytest.raises(DeepfieldError, match=r"shape \(3,\) of the simulations, not \(4,\)"):
        encoding(np.zeros(4))
    with pytest.raises(DeepfieldError, match="NaN or infinite"):
        encoding([0.0, np.nan, 1.0])
    with pytest.raises(DeepfieldError, match=r"a vector, a sequence \(channels, length\) or a map"):
        Encoding.fit(np.zeros((5, 2, 2, 2, 2)))
    with pytest.raises(DeepfieldError, match="damaged"):
        Encoding.from_dict({**encoding.to_dict(), "keep": [7, 8, 9]})
