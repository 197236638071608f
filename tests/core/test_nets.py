import math

import pytest
import torch

from deepfield.core.nets import Dropout, ResidualMLP, Standardise

NAN = math.nan


def test_standardise_takes_median_and_width_and_masks_what_is_missing():
    torch.manual_seed(0)
    x = torch.randn(5000, 2) * torch.tensor([3.0, 1e-3]) + torch.tensor([20.0, -1.0])
    x[::7, 1] = NAN
    s = Standardise(2).fit(x)
    out = s(x)
    assert out.shape == (5000, 4) and bool(torch.isfinite(out).all())
    assert out[:, 0].median().item() == pytest.approx(0, abs=1e-4)
    assert out[:, 0].std().item() == pytest.approx(1, abs=0.05)
    assert bool((out[::7, 1] == 0).all() and (out[::7, 3] == 1).all() and (out[1::7, 3] == 0).all())
    assert bool((out[:, 2] == 0).all())


def test_standardise_masks_only_the_first_where_features_go_missing_together():
    s = Standardise(3, masked=1)
    assert s(torch.tensor([[NAN, NAN, 1.0]])).tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_standardise_survives_columns_without_information():
    x = torch.randn(100, 4)
    x[:, 0], x[:, 1], x[:50, 2], x[50:, 3] = 3.0, NAN, math.inf, -math.inf
    s = Standardise(4).fit(x)
    assert bool(torch.isfinite(s.shift).all() and torch.isfinite(s.scale).all() and (s.scale > 0).all())
    assert bool(torch.isfinite(s(x)).all())
    assert 5 <= float(s(torch.full((1, 4), 1e30)).max()) <= 10


def test_standardise_of_more_rows_than_torch_quantile_takes():
    x = torch.linspace(0, 1, 2_500_000)[:, None]
    assert Standardise(1).fit(x).shift.item() == pytest.approx(0.5, abs=1e-5)


def test_mlp_answers_every_pattern_of_gaps():
    net = ResidualMLP(3, 4, width=8, blocks=2).eval()
    x = torch.tensor([[a, b, c] for a in (0.0, NAN) for b in (1.0, NAN) for c in (2.0, NAN)])
    out = net(x)
    assert out.shape == (8, 4) and bool(torch.isfinite(out).all())
    assert len({tuple(row) for row in out.tolist()}) == 8
    alone = torch.cat([net(row[None]) for row in x])
    torch.testing.assert_close(out, alone)


def test_mlp_takes_no_rows():
    assert ResidualMLP(3, 4, width=8)(torch.zeros(0, 3)).shape == (0, 4)


def test_mlp_gradients_reach_every_weight_in_spite_of_gaps():
    net = ResidualMLP(3, 2, width=8, blocks=1)
    net(torch.tensor([[1.0, NAN, 2.0], [NAN, 1.0, 0.5]])).square().sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())


def test_dropout_acts_in_training_alone():
    net = ResidualMLP(2, 1, width=16, dropout=0.5)
    x = torch.ones(1, 2)
    net.train()
    assert len({net(x).item() for _ in range(8)}) > 1
    net.eval()
    assert len({net(x).item() for _ in range(8)}) == 1


def test_a_constant_with_rounding_noise_is_no_feature():
    x = (torch.full((1000,), -6.3) * (1 + 2e-7 * torch.randn(1000)))[:, None]
    assert float(Standardise(1).fit(x)(x)[:, 0].abs().max()) < 1e-4
    small = 1e-7 * torch.randn(1000, 1)
    assert 0.5 < float(Standardise(1).fit(small)(small)[:, 0].std()) < 2


def test_dropout_keeps_the_mean_and_is_off_when_serving():
    torch.manual_seed(0)
    layer, x = Dropout(0.2), torch.ones(504, 336, requires_grad=True)
    y = layer(x)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert (y == 0).float().mean().item() == pytest.approx(51 / 256, abs=0.005)
    assert (y == 0).float().mean(0).std() < 0.03, "all bytes of a word alike"
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x and Dropout(0.0)(x) is x
