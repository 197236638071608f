import numpy as np
import pytest
import torch
from torch import nn

from deepfield.core.heads import Categorical, GaussianMixture
from deepfield.core.model import Model, ensemble, members
from deepfield.core.nets import ResidualMLP


def build(seed: int = 0, components: int = 2) -> Model:
    torch.manual_seed(seed)
    head = GaussianMixture(components)
    return Model(ResidualMLP(3, head.n_features, width=8, dropout=0.2), head)


def test_predict_is_the_forward_pass_whatever_the_chunk():
    model, x = build(), torch.randn(101, 3)
    model.train()
    whole, chunked = model.predict(x), model.predict(x, chunk=7)
    assert model.training, "predict changed the mode"
    # Products of matrices of other sizes are rounded otherwise.
    np.testing.assert_allclose(whole.features, chunked.features, atol=1e-6)
    model.eval()
    np.testing.assert_allclose(whole.mean, model(x).mean.detach(), atol=1e-6)


def test_predict_of_no_rows():
    p = build().predict(torch.zeros(0, 3))
    assert len(p) == 0 and p.mean.shape == (0,)


def test_loss_is_the_mean_negative_log_likelihood():
    model, x, y = build().eval(), torch.randn(50, 3), torch.randn(50)
    assert model.loss(x, y).item() == pytest.approx(-model(x).log_prob(y).mean().item(), rel=1e-6)
    p = model.predict(x)
    assert model.loss(x, y).item() == pytest.approx(-p.log_prob(y.numpy()).mean(), rel=1e-5)


def test_heads_compute_in_float32_under_autocast():
    model, x, y = build().eval(), torch.randn(50, 3), torch.randn(50)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x, y)
    assert loss.dtype == torch.float32 and seen == [torch.float32]


def test_ensemble_is_the_average_of_its_members():
    parts, x, y = [build(s, 2 + s).eval() for s in range(3)], torch.randn(20, 3), torch.randn(20)
    whole = ensemble(parts)
    average = torch.stack([m(x).log_prob(y).exp() for m in parts]).mean(0)
    torch.testing.assert_close(whole.eval()(x).log_prob(y).exp(), average)
    mean_loss = torch.stack([m.loss(x, y) for m in parts]).mean()
    assert whole.loss(x, y).item() == pytest.approx(mean_loss.item(), rel=1e-5)
    again = members(whole)
    assert [m.net is p.net and m.head is p.head for m, p in zip(again, parts)] == [True] * 3


def test_ensemble_of_one_is_that_one():
    model = build()
    assert ensemble([model]) is model and members(model)[0] is model


def test_members_are_fitted_as_if_alone():
    parts = [build(s).eval() for s in range(2)]
    x, y = torch.randn(20, 3), torch.randn(20)
    ensemble(parts).loss(x, y).backward()
    together = [p.grad.clone() for p in parts[0].parameters() if p.grad is not None]
    parts[0].zero_grad()
    parts[0].loss(x, y).backward()
    alone = [p.grad / 2 for p in parts[0].parameters() if p.grad is not None]
    torch.testing.assert_close(together, alone)


def test_classes_are_predicted_too():
    p = Model(nn.Linear(2, 3), Categorical(3)).predict(torch.randn(5, 2))
    assert p.distribution().probs.sum(-1).tolist() == pytest.approx([1] * 5)
