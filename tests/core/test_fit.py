"""The training loop: it learns, keeps its best, repeats itself, and survives a kill."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from deepfield.core.batches import Batches
from deepfield.core.devices import pick_device
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.flow import Flow
from deepfield.core.heads import GaussianMixture, GaussianVector
from deepfield.core.model import Model
from deepfield.core.nets import ResidualMLP

CONFIG = FitConfig(epochs=4, learning_rate=1e-2)


def toy(n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=rng)
    return x, torch.sin(3 * x[:, 0]) + 0.1 * torch.randn(n, generator=rng)


def build(dropout: float = 0.0) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = GaussianMixture(2)
        return Model(ResidualMLP(2, head.n_features, width=16, blocks=1, dropout=dropout), head)


def batches(seed: int | None = 0, n: int = 2000, size: int = 100) -> Batches:
    return Batches(*toy(n, seed=7 if seed is None else 0), size=size, seed=seed)


def learn(config: FitConfig = CONFIG, *, model: Model | None = None, train=None, held=None, **options):
    model = model or build()
    train = batches() if train is None else train
    return model, fit(
        model, train, batches(None, 500) if held is None else held, config, progress=False, **options
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


# -- learning -----------------------------------------------------------------------------------------------


def test_fit_recovers_the_noise_of_the_truth():
    model, history = learn(FitConfig(epochs=30, learning_rate=1e-2))
    x, _ = toy(4000, seed=9)
    p = model.predict(x)
    assert abs(p.mean - torch.sin(3 * x[:, 0]).numpy()).mean() < 0.03
    assert p.std.mean() == pytest.approx(0.1, abs=0.02)
    assert history.train[-1] < history.train[0] and history.seconds > 0
    assert not model.training


def test_the_weights_kept_are_the_averaged_ones_of_the_best_epoch():
    seen = []
    model, history = learn(FitConfig(epochs=6, learning_rate=3e-2), on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert history.validation[history.best_epoch] == min(history.validation)
    with torch.no_grad():
        held = sum(float(model.loss(*b)) * len(b[0]) for b in batches(None, 500)) / 500
    assert held == pytest.approx(min(history.validation), rel=1e-5)


def test_patience_stops_a_fit_that_gets_worse():
    # Held-out rows that contradict the training rows: the first epochs are the best.
    x, y = toy(500, 3)
    model, history = learn(
        FitConfig(epochs=50, learning_rate=3e-2, patience=3), held=[(x, -5 * y)], train=batches(n=500)
    )
    assert len(history.train) < 50
    assert len(history.validation) - 1 - history.best_epoch == 3
    with torch.no_grad():
        assert float(model.loss(x, -5 * y)) == pytest.approx(min(history.validation), rel=1e-5)


def test_within_the_tolerance_the_last_epoch_is_kept_and_nothing_stops():
    x, y = toy(500, 3)
    config = FitConfig(epochs=12, learning_rate=3e-2, patience=3, tolerance=1e6)
    model, history = learn(config, held=[(x, -5 * y)], train=batches(n=500))
    assert len(history.validation) == 12 and history.best_epoch == 11
    assert history.validation[-1] > min(history.validation), "the best was another one"
    with torch.no_grad():
        assert float(model.loss(x, -5 * y)) == pytest.approx(history.validation[-1], rel=1e-5)


def test_fits_repeat_themselves_whatever_the_global_seed():
    torch.manual_seed(1)
    first, h1 = learn(model=build(dropout=0.3))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second, h2 = learn(model=build(dropout=0.3))
    assert same(first, second) and h1.train == h2.train and h1.validation == h2.validation
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator was touched"
    other, _ = learn(FitConfig(epochs=4, learning_rate=1e-2, seed=5), model=build(dropout=0.3))
    assert not same(first, other)


def test_frozen_parameters_stay():
    model = build()
    model.net.embed.requires_grad_(False)
    before = copy.deepcopy(model.net.embed.state_dict())
    learn(model=model)
    assert all(torch.equal(v, before[k]) for k, v in model.net.embed.state_dict().items())


class Stream:
    """Re-iterable without a length, as files on disk are."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        x, y = toy(1000, seed=self.passes)
        for i in range(0, 1000, 100):
            yield x[i : i + 100], y[i : i + 100]


def test_streams_without_length_are_gone_over_once_an_epoch():
    stream = Stream()
    _, history = learn(FitConfig(epochs=5, learning_rate=1e-2), train=stream)
    assert stream.passes == 5 and history.validation[-1] < history.validation[0]


def test_loss_is_the_escape_hatch():
    model = nn.Linear(2, 1)
    _, history = learn(
        FitConfig(epochs=20, learning_rate=5e-2),
        model=model,
        loss=lambda m, x, y: nn.functional.mse_loss(m(x)[:, 0], y),
    )
    x, y = toy()
    design = torch.cat([x, torch.ones(len(x), 1)], 1)
    best = torch.linalg.lstsq(design, y).solution
    assert model.weight[0].tolist() == pytest.approx(best[:2].tolist(), abs=0.05)
    assert history.validation[-1] < history.validation[0]


# -- what cannot be learned ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        ([], None, "the training batches are empty"),
        (None, [], "the validation batches are empty; early stopping needs held-out rows"),
        (iter([toy(100)]), None, "an exhausted iterator"),
        ([(toy(100)[0], torch.full((100,), float("nan")))], None, r"not finite after epoch 1 \(train nan"),
        (None, [(toy(100)[0], torch.full((100,), float("inf")))], "look for infinite or absurd values"),
    ],
)
def test_data_that_teach_nothing(train, held, message):
    with pytest.raises(ModelError, match=message):
        learn(train=train, held=held)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"clip": -1.0}, "clip must be positive"),
        ({"average": 1.0}, "decay of a moving average"),
        ({"processes": 0}, "processes must be at least 1"),
    ],
)
def test_settings_that_make_no_fit(settings, message):
    with pytest.raises(ModelError, match=message):
        FitConfig(**settings)


def test_a_model_without_parameters():
    model = build().requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter to fit"):
        learn(model=model)


def test_devices_and_precisions_are_named():
    with pytest.raises(DeepfieldError, match=r"no device 'tpu' on this machine; there is .*cpu"):
        pick_device("tpu")
    with pytest.raises(DeepfieldError, match="precision is '32' or 'bf16', got '8'"):
        learn(FitConfig(precision="8"))
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    "head",
    [GaussianMixture(3), GaussianVector(1, rank=1), Flow(1, context=8, transforms=1, hidden=16)],
    ids=["mixture", "low rank", "flow"],
)
def test_bf16_learns_almost_as_well(head):
    def losses(precision: str) -> float:
        torch.manual_seed(0)
        own = copy.deepcopy(head)
        model = Model(ResidualMLP(2, own.n_features, width=16, blocks=1), own)
        x, y = toy()
        x7, y7 = toy(500, 7)
        shape = (lambda v: v[:, None]) if isinstance(own, GaussianVector) else (lambda v: v)
        train = Batches(x, shape(y), size=100, seed=0)
        config = FitConfig(epochs=6, learning_rate=1e-2, precision=precision)
        return fit(model, train, [(x7, shape(y7))], config, progress=False).validation[-1]

    assert losses("bf16") == pytest.approx(losses("32"), abs=0.15)


# -- checkpoints --------------------------------------------------------------------------------------------


def test_resumed_fit_ends_where_an_unbroken_one_does(tmp_path):
    whole, h1 = learn(model=build(dropout=0.2))
    path = tmp_path / "fit.ckpt"

    def stop(epoch, _):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(model=build(dropout=0.2), checkpoint=path, on_epoch=stop)
    torch.manual_seed(99)
    seen = []
    resumed, h2 = learn(model=build(dropout=0.2), checkpoint=path, on_epoch=lambda e, _: seen.append(e))
    assert seen == [3, 4] and same(whole, resumed)
    assert (h1.train, h1.validation, h1.best_epoch) == (h2.train, h2.validation, h2.best_epoch)
    # A finished fit has nothing left to do.
    again, _ = learn(model=build(dropout=0.2), checkpoint=path, on_epoch=lambda e, _: seen.append(e))
    assert seen == [3, 4] and same(whole, again)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.ckpt"]


def test_an_interruption_and_a_resumption_say_after_which_epoch(tmp_path, caplog):
    def stop(epoch, _):
        if epoch == 3:
            raise KeyboardInterrupt

    path = tmp_path / "fit.ckpt"
    place = f"goes on after epoch 3 of 4 (checkpoint in {tmp_path})"
    with pytest.raises(KeyboardInterrupt) as stopped:
        learn(checkpoint=path, on_epoch=stop)
    assert str(stopped.value) == place
    with pytest.raises(KeyboardInterrupt) as stopped:
        learn(on_epoch=stop)
    assert str(stopped.value) == "", "nothing to go on from"
    with caplog.at_level("INFO", logger="deepfield"):
        learn(checkpoint=path)
    assert f"fit {place}" in caplog.messages


@pytest.mark.parametrize("change", ["settings", "shape", "data"])
def test_checkpoint_of_another_fit_is_refused(tmp_path, change):
    path = tmp_path / "fit.ckpt"
    learn(checkpoint=path)
    config, model = CONFIG, build()
    if change == "settings":
        config = FitConfig(epochs=5, learning_rate=1e-2)
    elif change == "shape":
        model.head = GaussianMixture(3)
        model.net.project[1] = nn.Linear(16, 9)
    else:
        model.net.standardise.fit(toy()[0])
    with pytest.raises(ModelError, match="belongs to a fit with other settings or data; delete it to start anew"):
        learn(config, model=model, checkpoint=path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 100, "half"])
def test_broken_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "fit.ckpt"
    learn(checkpoint=path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(
        ModelError, match=r"checkpoint .*fit\.ckpt cannot be read, it is damaged; delete it to start anew"
    ):
        learn(checkpoint=path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    flag = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(flag),))

    path = tmp_path / "fit.ckpt"
    torch.save({"fingerprint": Evil()}, path)
    with pytest.raises(ModelError, match="cannot be read"):
        learn(checkpoint=path)
    assert not flag.exists()


SCRIPT = textwrap.dedent("""
    import sys, time, torch
    from torch import nn
    from deepfield.core.batches import Batches
    from deepfield.core.fit import FitConfig, fit
    from deepfield.core.heads import GaussianMixture
    from deepfield.core.model import Model
    from deepfield.core.nets import ResidualMLP

    checkpoint, out, pause = sys.argv[1] or None, sys.argv[2], float(sys.argv[3])
    torch.manual_seed(0)
    head = GaussianMixture(3)
    model = Model(ResidualMLP(2, head.n_features, width=32, blocks=1, dropout=0.1), head)
    x = torch.rand(1000, 2)
    y = x[:, 0] + 0.1 * torch.randn(1000)

    def noise(x, y, generator):
        time.sleep(pause)
        return x + 0.01 * torch.randn(x.shape, generator=generator), y

    train = Batches(x, y, size=50, seed=0, augment=noise)
    held = Batches(x[:200], y[:200], size=100, seed=None)
    config = FitConfig(epochs=6, learning_rate=1e-2, average=0.9)
    fit(model, train, held, config, checkpoint=checkpoint, progress=False,
        on_epoch=lambda epoch, _: print(epoch, flush=True))
    torch.save(model.state_dict(), out)
""")


def run(capsys, *arguments: object) -> list[int]:
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        exec(compile(SCRIPT, "train.py", "exec"), {"__name__": "__main__"})
    return [int(line) for line in capsys.readouterr().out.split()]


def test_kill_9_costs_one_epoch_at_most_and_changes_nothing(tmp_path, capsys):
    script, checkpoint = tmp_path / "train.py", tmp_path / "fit.ckpt"
    script.write_text(SCRIPT)
    killed = subprocess.Popen(
        [sys.executable, script, checkpoint, tmp_path / "never", "0.01"], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.strip() == "3":
            break
    time.sleep(0.1)  # well within the fourth epoch, which takes twice as long
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=30) == -signal.SIGKILL
    killed.stdout.close()
    assert not (tmp_path / "never").exists()

    assert run(capsys, checkpoint, tmp_path / "resumed", 0) == [4, 5, 6]
    assert run(capsys, "", tmp_path / "whole", 0) == [1, 2, 3, 4, 5, 6]
    resumed, whole = (torch.load(tmp_path / name, weights_only=True) for name in ("resumed", "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_statistics_of_a_batch_norm_are_averaged_with_the_weights():
    """After one epoch of a drifting input the kept running mean lags behind the last one, as the weights do."""
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(1)
    model = Model(torch.nn.Sequential(norm, torch.nn.Linear(1, 3)), GaussianMixture(1))
    x = torch.linspace(0, 10, 640)[:, None]
    seen = []
    hook = norm.register_forward_hook(lambda m, *_: seen.append(float(m.running_mean)) if m.training else None)
    batches = [(x[i : i + 32], x[i : i + 32, 0]) for i in range(0, 640, 32)]
    fit(model, batches, batches, FitConfig(epochs=1, average=0.99), progress=False)
    hook.remove()
    kept = float(norm.running_mean)
    assert min(seen) < kept < 0.9 * max(seen)
    assert int(norm.num_batches_tracked) == 20
