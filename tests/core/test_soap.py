"""SOAP: a closed form, Adam's own step where there is no matrix, more progress than AdamW on a bad problem."""

import numpy as np
import pytest
import torch

from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.heads import GaussianMixture
from deepfield.core.model import Model
from deepfield.core.nets import ResidualMLP
from deepfield.core.soap import SOAP


def descend(make, start, gradient, steps):
    w = start.clone().requires_grad_(True)
    optimizer = make([w])
    for _ in range(steps):
        w.grad = gradient(w.detach())
        optimizer.step()
    return w.detach()


def test_vectors_take_adams_steps():
    start, gradient = torch.randn(7, generator=torch.Generator().manual_seed(0)), lambda w: 3 * w + 1
    ours = descend(lambda p: SOAP(p, lr=0.01, betas=(0.9, 0.95)), start, gradient, 20)
    adam = descend(lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.95)), start, gradient, 20)
    torch.testing.assert_close(ours, adam)


def test_the_first_step_of_a_matrix_is_the_sign_in_its_own_basis():
    # With one gradient G = U S V^T the bases are U and V, the update U sign(S) V^T: the nearest orthogonal matrix.
    g = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = descend(lambda p: SOAP(p, lr=1.0), torch.zeros(4, 4, dtype=torch.float64), lambda _: g, 1)
    u, _, vt = torch.linalg.svd(g)
    torch.testing.assert_close(-moved, u @ vt, atol=1e-4, rtol=0)


def test_a_badly_scaled_quadratic_falls_faster_than_with_adamw():
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    a = torch.tensor(q @ np.diag(np.logspace(-2, 2, 12)) @ q.T)
    start = torch.tensor(rng.normal(size=(12, 5)))
    loss = lambda w: float((w * (a @ w)).sum())  # noqa: E731

    def best(make):
        ends = [descend(lambda p, r=r: make(p, lr=r), start, lambda w: a @ w, 300) for r in (0.003, 0.01, 0.03)]
        return min(loss(w) for w in ends)

    assert best(SOAP) < 0.3 * best(torch.optim.AdamW)


def test_weights_decay_apart_from_the_gradient():
    moved = descend(lambda p: SOAP(p, lr=0.1, weight_decay=0.5), torch.ones(3), torch.zeros_like, 2)
    torch.testing.assert_close(moved, torch.full((3,), 0.95**2))


def test_its_state_goes_through_a_checkpoint(tmp_path):
    def learn(epochs_before_break=None):
        torch.manual_seed(0)
        head = GaussianMixture(2)
        model = Model(ResidualMLP(3, head.n_features, width=8), head)
        x, y = torch.randn(256, 3), torch.randn(256)
        batches = Batches(x, y, size=32, seed=0), Batches(x, y, size=256, seed=None)

        def stop(epoch, _):
            if epoch == epochs_before_break:
                raise KeyboardInterrupt

        options = {"checkpoint": tmp_path / "c", "on_epoch": stop} if epochs_before_break else {}
        if (tmp_path / "c").exists():
            options = {"checkpoint": tmp_path / "c"}
        fit(model, *batches, FitConfig(epochs=4, optimizer="soap"), progress=False, **options)
        return model.state_dict()

    whole = learn()
    with pytest.raises(KeyboardInterrupt):
        learn(2)
    resumed = learn()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ModelError, match="'adamw' or 'soap', not 'sgd'"):
        FitConfig(optimizer="sgd")
