import copy

import numpy as np
import pytest
import torch
from torch import nn

from deepfield.core.batches import Batches
from deepfield.core.distil import Neighbourhood, distil
from deepfield.core.fit import FitConfig
from deepfield.core.flow import Flow
from deepfield.core.heads import Categorical, ClassMixture, GaussianMixture
from deepfield.core.model import Model, ensemble
from deepfield.core.nets import ResidualMLP

CONFIG = FitConfig(epochs=12, learning_rate=1e-2, weight_decay=0.0)


def build(seed: int, head) -> Model:
    torch.manual_seed(seed)
    return Model(ResidualMLP(1, head.n_features, width=16, blocks=1), head)


def inputs(seed: int | None, n: int = 1500) -> Batches:
    x = 2 * torch.rand(n, 1, generator=torch.Generator().manual_seed(1)) - 1
    return Batches(x, torch.zeros(n), size=150, seed=seed)


def test_student_says_what_the_teacher_says():
    teacher = ensemble([build(s, GaussianMixture(2)) for s in range(3)])
    student = build(9, GaussianMixture(4))
    distil(teacher, student, inputs(0), inputs(None, 300), CONFIG, progress=False)
    x = torch.linspace(-0.9, 0.9, 40)[:, None]
    said, wanted = student.predict(x), teacher.predict(x)
    np.testing.assert_allclose(said.mean, wanted.mean, atol=0.1)
    np.testing.assert_allclose(said.std, wanted.std, rtol=0.12)
    grid = np.linspace(-6, 6, 200)
    gap = np.trapezoid(abs(said.pdf(grid) - wanted.pdf(grid)), grid, axis=1)
    assert gap.mean() < 0.12


def test_the_teacher_is_left_as_it_was():
    teacher = build(0, GaussianMixture(2)).train()
    before = copy.deepcopy(teacher.state_dict())
    distil(teacher, build(1, GaussianMixture(2)), inputs(0), inputs(None), FitConfig(epochs=1), progress=False)
    assert teacher.training and all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_distillation_repeats_itself_and_resumes_whatever_the_global_seed(tmp_path):
    teacher = build(0, GaussianMixture(2))

    def run(**options):
        student = build(1, GaussianMixture(2))
        config = FitConfig(epochs=3, learning_rate=1e-2)
        history = distil(teacher, student, inputs(0), inputs(None), config, progress=False, **options)
        return student, history

    def stop(epoch, _):
        if epoch == 1:
            raise KeyboardInterrupt

    torch.manual_seed(1)
    whole, h1 = run()
    torch.manual_seed(2)
    again, h2 = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "d.ckpt", on_epoch=stop)
    torch.manual_seed(3)
    resumed, h3 = run(checkpoint=tmp_path / "d.ckpt")
    assert h1.validation == h2.validation == h3.validation
    for other in (again, resumed):
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in whole.state_dict().items())


@pytest.mark.parametrize("kind", ["classes", "class mixture", "flow"])
def test_other_heads_are_distilled_too(kind):
    torch.manual_seed(0)
    make = {
        "classes": lambda: Categorical(3),
        "class mixture": lambda: ClassMixture(2, 2),
        "flow": lambda: Flow(1, context=4, transforms=1, hidden=8),
    }[kind]
    teacher = ensemble([Model(nn.Linear(1, h.n_features), h) for h in (make(), make())])
    head = make()
    student = Model(nn.Linear(1, head.n_features), head)
    config = FitConfig(epochs=40, learning_rate=5e-2, weight_decay=0.0)
    history = distil(teacher, student, inputs(0, 600), inputs(None, 300), config, draws=4, progress=False)
    assert min(history.validation) < history.validation[0]
    x = torch.tensor([[-0.5], [0.5]])
    if kind == "classes":
        torch.testing.assert_close(student(x).probs, teacher(x).probs, atol=0.05, rtol=0)
    else:
        np.testing.assert_allclose(student.predict(x).median, teacher.predict(x).median, atol=0.2)


def test_neighbours_of_many_rows_are_looked_for_in_some_of_them():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    exact, capped = (Neighbourhood(x, torch.ones(3), neighbours=5, most=most) for most in (400, 150))
    own = torch.arange(400)[:, None]
    for near in (exact, capped):
        assert near.rows.shape == (400, 5) and not (near.rows == own).any(), "no row is its own neighbour"
        assert all(len(set(row)) == 5 for row in near.rows.tolist())
    some = capped.rows.unique()
    assert len(some) <= 150 and torch.equal(
        some, Neighbourhood(x, torch.ones(3), neighbours=5, most=150).rows.unique()
    )
    # brute force: exact without a cap; with it, at most twice the distance of the best among those 150
    apart = torch.cdist(x, x).fill_diagonal_(torch.inf)
    assert torch.equal(exact.rows.sort(1).values, apart.topk(5, largest=False).indices.sort(1).values)
    best = apart[:, some].topk(5, largest=False).values
    assert (apart.gather(1, capped.rows).sort(1).values <= 2 * best + 1e-6).all()
    again = capped(torch.arange(400), generator=torch.Generator().manual_seed(1))[0]
    assert again.isfinite().all() and (again - x).abs().mean() > 0
