"""Galaxy morphology on real images and on simulated votes: the figures of docs/benchmarks/morphology.md.

    DEEPFIELD_DATA=... python benchmarks/morphology.py galaxies --groups none p4m c8 d8 --seeds 0 1 2
    DEEPFIELD_DATA=... python benchmarks/morphology.py chirality | radio | votes | active

Each part adds its runs to ``benchmarks/results/morphology_<part>.json`` and skips those that are there already
(``--again`` does not). One thread.

galaxies    Galaxy Zoo 1 (Lintott et al. 2008), elliptical, spiral, edge-on and merger: nets of every group with
            as many weights and as much processor time, told apart from the plain one by nothing else. Trained,
            stopped and calibrated on the train rows, measured on the val rows. ``--choose`` takes a quarter of the
            train rows in place of the val rows: with it settings are chosen.
compare     the nets of ``galaxies`` (``--models``), paired: differences with errors over the galaxies.
chirality   clockwise against anticlockwise spirals of the same survey, five-fold, with and without nets that have
            learnt from simulated spirals first; nets with mirrors exchange the two exactly.
radio       FRI against FRII (MiraBest; Miraghaei & Best 2017), random splits.
votes       simulated galaxies with votes from a known posterior: do its intervals cover (simulation-based
            calibration, Talts et al. 2018, arXiv:1804.06788)?
active      labels chosen by the net against labels at random, from the same pool.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from morphology_senses import PARAMETERS, mirror, senses, simulated_spirals, spirals
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.stats import kstest

from deepfield import morphology
from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.votes import DirichletMultinomial
from deepfield.morphology import Images, MorphologyConfig, MorphologyModel
from deepfield.morphology.opinions import opinions
from deepfield.morphology.predict import answer
from deepfield.morphology.run import four_classes
from deepfield.morphology.train import Fit, _split
from deepfield.trust.classification import confusion_matrix, macro_f1
from deepfield.trust.temperature import fit_temperature

RESULTS = Path(__file__).parent / "results"
CROP, PIXELS = 72, 32


def keep(part: str, key: str, found: dict[str, Any]) -> None:
    """Add a run to the results of a part."""
    path = RESULTS / f"morphology_{part}.json"
    results = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    results["machine"] = machine()
    results["runs"][key] = found
    results["runs"] = dict(sorted(results["runs"].items()))
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    shown = {k: round(v, 4) for k, v in found.items() if isinstance(v, float)}
    print(part, key, shown, flush=True)


def done(part: str, key: str) -> bool:
    path = RESULTS / f"morphology_{part}.json"
    return path.exists() and key in json.loads(path.read_text())["runs"]


def galaxies(choose: int | None = None) -> tuple[Images, Images]:
    """Galaxy Zoo 1 with four classes: to train on, and to test on."""
    images = four_classes(morphology.read("galaxy_zoo1_sdss", crop=CROP))
    training = np.asarray(images.table["split"]).astype(str) == "train"
    rows, test = images[training], images[~training]
    return rows.split(0.75, seed=100 + choose) if choose is not None else (rows, test)


def timed(images: Images, config: MorphologyConfig, seconds: float) -> tuple[Fit, dict[str, Any]]:
    """A fit of about so many seconds of processor time, or of the epochs that are set, and what it took."""
    images.load()  # decoding is nobody's training time

    def fit(epochs: int) -> tuple[Fit, float]:
        began = time.process_time()
        return morphology.fit(images, config, epochs=epochs, progress=False), time.process_time() - began

    epochs = config.epochs
    if not epochs:
        one, three = fit(1)[1], fit(3)[1]
        epochs = max(2, round(1 + (seconds - one) / max((three - one) / 2, 0.1 * three)))
    fitted, took = fit(epochs)
    card = fitted.model.card
    history = card["history"]["members"]
    best = history["validation"][history["best_epoch"]]
    return fitted, {"seconds": took, "epochs": epochs, "parameters": card["parameters"], "validation loss": best}


def scores(
    p: NDArray[Any], images: Images, model: MorphologyModel, labels: tuple[str, ...] = ()
) -> dict[str, Any]:
    labels = labels or model.labels
    y = morphology.targets(images.table, model.config.labels, classes=labels).y.numpy()
    found = morphology.score(p, y, classes=labels)
    values = {name: float(metric) for name, metric in found.metrics.items()}
    errors = {f"{name} error": metric.error for name, metric in found.metrics.items()}
    return values | errors | {"confusion": found.confusion, "classes": list(labels)}


# -- invariance ------------------------------------------------------------------------------------------------


def turned(x: torch.Tensor, angle: float) -> torch.Tensor:
    """Images turned by ``angle`` (radians) about their middle with cubic splines."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix, middle = np.array([[cos, -sin], [sin, cos]]), np.full(2, (x.shape[-1] - 1) / 2)
    shift = middle - matrix @ middle
    planes = x.float().numpy().reshape(-1, *x.shape[2:])
    out = np.stack([affine_transform(plane, matrix, shift, order=3, mode="reflect") for plane in planes])
    return torch.from_numpy(out).view(x.shape).clamp(0, 255)


def invariance(model: MorphologyModel, x: torch.Tensor) -> dict[str, float]:
    """Change of p under the exact symmetries, of logits and labels at 45 degrees."""

    def ask(seen: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
        features = model.features(seen.float())
        p = answer(model, features, np.full(len(seen), "")).probabilities
        return p, features.mean(1).double().numpy()

    p, z = ask(x)
    quarters = [x.rot90(k, (2, 3)) for k in range(4)]
    turns, mirrors = (max(float(np.abs(ask(v)[0] - p).max()) for v in seen)
                      for seen in (quarters, [v.flip(3) for v in quarters]))  # fmt: skip
    between, moved = ask(turned(x, math.pi / 4))
    return {
        "largest change of p": turns,
        "largest change of p, mirrored": mirrors,
        "change of logit at 45": float((np.abs(moved - z).mean(0) / z.std(0)).mean()),
        "flips at 45": float((between.argmax(1) != p.argmax(1)).mean()),
    }


# -- the parts -------------------------------------------------------------------------------------------------


def part_galaxies(options: argparse.Namespace) -> None:
    part = "galaxies" if not options.choose else "galaxies_choose"
    for seed in options.seeds:
        rows, test = galaxies(seed if options.choose else None)
        for group in options.groups:
            key = f"{group} {seed} {options.tag}".strip()
            if done(part, key) and not options.again:
                continue
            config = MorphologyConfig(
                labels=("class",), group=group, pixels=options.pixels, parameters=PARAMETERS, seed=seed,
                **json.loads(options.settings),
            )  # fmt: skip
            fitted, found = timed(rows, config, options.seconds)
            model = fitted.model
            ours = morphology.predict(model, test)
            found |= {"group": group, "seed": seed, "config": asdict(config), "temperature": model.temperature}
            found |= scores(ours.probabilities, test, model) | invariance(model, test.load()[0])
            if group == "none":
                found["averaged"] = scores(
                    morphology.predict(asked_often(model, rows), test).probabilities, test, model
                )
            keep(part, key, found)
            if options.models:
                model.save(Path(options.models) / key.replace(" ", "_"))


def asked_often(model: MorphologyModel, rows: Images) -> MorphologyModel:
    """The model asked eight times, at a temperature of its own from the rows that calibrated it."""
    held = rows[_split(morphology.targets(rows.table, ("class",)), model.config)["calibration"]]
    known = morphology.targets(held.table, ("class",), classes=model.labels).y.numpy()
    often = replace(model, config=replace(model.config, average=True), temperature=1.0)
    often.temperature = fit_temperature(np.log(morphology.predict(often, held).probabilities), known)
    return often


def part_compare(options: argparse.Namespace) -> None:
    """The nets of ``--models`` against the plain ones, asked once and asked eight times: a paired bootstrap.

    Galaxies are drawn anew, the same ones for all nets and seeds; what is compared is the mean over the seeds.
    """
    rows, test = galaxies()
    y = morphology.targets(test.table, ("class",)).y.numpy()
    group, *_ = options.groups
    found: dict[str, list[NDArray[Any]]] = {group: [], "none": [], "none, eightfold": []}
    for seed in options.seeds:
        for name in (group, "none"):
            model = morphology.load(Path(options.models) / f"{name}_{seed}")
            found[name].append(morphology.predict(model, test).probabilities)
        often = asked_often(model, rows)
        found["none, eightfold"].append(morphology.predict(often, test).probabilities)
    rng = np.random.default_rng(0)
    draws = [np.arange(len(y)), *rng.integers(0, len(y), (1000, len(y)))]
    grid = {name: np.array([_metrics(np.array(p)[:, d], y[d]) for d in draws]) for name, p in found.items()}
    for name in ("none", "none, eightfold"):
        gain = grid[group] - grid[name]
        values = {m: {"value": gain[0, i], "error": gain[1:, i].std()} for i, m in enumerate(_COMPARED)}
        values |= {f"{m} of {name}": {"value": grid[name][0, i]} for i, m in enumerate(_COMPARED)}
        keep("compare", f"{group} less {name}", {"seeds": options.seeds, **values})


_COMPARED = ("accuracy", "log_loss", "macro_f1")


def _metrics(p: NDArray[Any], y: NDArray[Any]) -> list[float]:
    """Accuracy, log-loss and macro F1 of (seeds, N, C) probabilities, each the mean over the seeds."""
    chosen = p.argmax(2)
    f1 = [macro_f1(confusion_matrix(y[None], c[None], p.shape[2]))[0] for c in chosen]
    loss = -np.log(np.take_along_axis(p, y[None, :, None], 2)).mean()
    return [float((chosen == y).mean()), float(loss), float(np.mean(f1))]


def folds(n: int, count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to train on and rows to test on, every row tested once."""
    order = np.random.default_rng(seed).permutation(n)
    for fold in np.array_split(order, count):
        yield np.setdiff1d(order, fold), np.sort(fold)


def part_chirality(options: argparse.Namespace) -> None:
    """Nets that have seen simulated spirals, real ones, and first these and then those, fold by fold.

    Noise and a free scale keep a net that begins with them from ever seeing the arms; it learns them on still
    images, then with changes. The recipe was found on folds 0 and 1; the others are the test.
    """
    images = spirals()
    unseen, split = simulated_spirals(3_000, seed=99), list(folds(len(images), 5, seed=0))
    for group in options.groups:
        todo = [k for k in range(5) if options.again or not done("chirality", f"{group} {k}")]
        if not todo:
            continue
        began = time.process_time()
        base, tuned = senses(group)
        spent, simulated = time.process_time() - began, chirality(base, unseen)
        for k in todo:
            train, test = (images[rows] for rows in split[k])
            ways = {
                "simulated alone": base,
                "real alone": morphology.train(train, tuned, seed=k, learning_rate=3e-3, progress=False),
                "simulated, then real": morphology.train(train, tuned, seed=k, init=base, progress=False),
            }
            found = {way: chirality(model, test) for way, model in ways.items()}
            own = {
                "group": group,
                "seed": k,
                "tested": len(test),
                "seconds before": spent,
                "config": asdict(tuned),
            }
            keep("chirality", f"{group} {k}", own | {"on simulated ones": simulated} | found)
            print({way: round(value["accuracy"], 3) for way, value in found.items()}, flush=True)
        if options.models:
            final = morphology.train(images, tuned, init=base, progress=False)
            final.save(Path(options.models) / f"chirality_{group}")


def chirality(model: MorphologyModel, images: Images) -> dict[str, Any]:
    """Scores; the accuracy of the surest third; and the largest change of p beside an exchange under a mirror."""
    p = morphology.predict(model, images).probabilities
    mirrored = morphology.predict(model, mirror(images)).probabilities
    y = morphology.targets(images.table, model.config.labels, classes=model.labels).y.numpy()
    surest = np.argsort(-p.max(1))[: len(p) // 3]
    return scores(p, images, model) | {
        "right of the surest third": float((p.argmax(1) == y)[surest].mean()),
        "change beside an exchange": float(np.abs(mirrored[:, ::-1] - p).max()),
    }


def part_radio(options: argparse.Namespace) -> None:
    for seed in options.seeds:
        images = morphology.read("mirabest", crop=options.crop)
        train, test = images.split(0.8, seed=seed)
        for group in options.groups:
            if done("radio", f"{group} {seed}") and not options.again:
                continue
            config = MorphologyConfig(
                group=group, pixels=options.pixels, parameters=PARAMETERS, seed=seed,
                **json.loads(options.settings),
            )  # fmt: skip
            fitted, found = timed(train, config, options.seconds)
            found |= scores(morphology.predict(fitted.model, test).probabilities, test, fitted.model)
            found |= {"group": group, "seed": seed, "crop": options.crop, "tested": len(test)}
            found["config"] = asdict(config)
            keep("radio", f"{group} {seed}", found)


def part_votes(options: argparse.Namespace) -> None:
    """Train on votes; then ask where the true vote fractions lie in the posterior of unseen images."""
    for seed in options.seeds:
        if done("votes", str(seed)) and not options.again:
            continue
        drawn = morphology.simulate(options.images + 2000, seed=seed, size=64)
        scale: dict[str, Any] = {"pixel_scale": drawn.survey.pixel, "psf_fwhm": drawn.survey.fwhm}
        images = morphology.read(
            drawn.images.numpy(), catalog=drawn.table, bands=drawn.survey.bands, cache=2**33, **scale
        )
        rows, test = images[: options.images], images[options.images :]
        config = MorphologyConfig(
            tree=drawn.tree.name, group=options.groups[0], pixels=options.pixels, parameters=PARAMETERS, seed=seed,
            **json.loads(options.settings),
        )  # fmt: skip
        fitted, found = timed(rows, config, options.seconds)
        law = morphology.predict(fitted.model, test).distribution()
        assert isinstance(law, DirichletMultinomial)
        truth = np.random.default_rng(seed).standard_gamma(opinions(test.table, drawn.tree)).clip(1e-300)
        for q in drawn.tree.questions:
            part = drawn.tree.slice(q.name)
            truth[:, part] /= truth[:, part].sum(1, keepdims=True)
        pit = law.cdf(torch.from_numpy(truth)).numpy()
        votes = np.stack([np.asarray(test.table[name]) for name in drawn.tree.columns], 1)
        result = morphology.score(morphology.predict(fitted.model, test), votes, tree=drawn.tree)
        found |= {"seed": seed, "images": options.images, "tested": len(test), "config": asdict(config)}
        found["questions"] = {q.name: coverage(pit[:, drawn.tree.slice(q.name)]) for q in drawn.tree.questions}
        found["votes"] = result.to_dict()["questions"]
        keep("votes", str(seed), found)


def coverage(pit: NDArray[Any]) -> dict[str, float]:
    """Shares of true fractions within central intervals, and the uniformity of their ranks, over all answers."""
    inside = {f"{level:g}": float((np.abs(pit - 0.5) < level / 2).mean()) for level in (0.5, 0.683, 0.9, 0.955)}
    return inside | {"ks": float(np.mean([kstest(p, "uniform").statistic for p in pit.T]))}


def part_active(options: argparse.Namespace) -> None:
    """Curves of labels against quality: the labels that the ensemble asks for, and as many at random."""
    sizes = [int(n) for n in options.sizes.split(",")]
    for seed in options.seeds:
        pool, test = galaxies()
        every = morphology.targets(pool.table, ("class",)).labels
        held, pool = pool.split(0.25, seed=seed)
        for way in ("random", "information"):
            if done("active", f"{way} {seed}") and not options.again:
                continue
            rng = np.random.default_rng(seed)
            known = rng.permutation(len(pool))[: sizes[0]]
            curve = []
            for size, following in zip(sizes, [*sizes[1:], 0]):
                config = MorphologyConfig(
                    labels=("class",), group=options.groups[0], pixels=32, parameters=30_000, members=2, seed=seed,
                    epochs=max(6, round(options.steps * 32 / (0.8 * size))), **json.loads(options.settings),
                )  # fmt: skip
                model = morphology.train(pool[np.sort(known)], config, progress=False)
                found = {"labels": size}
                for name, part in (("held out", held), ("test", test)):
                    p = padded(morphology.predict(model, part).probabilities, model.labels, every, size)
                    found[name] = {k: v for k, v in scores(p, part, model, every).items() if isinstance(v, float)}
                curve.append(found)
                print(way, seed, size, found["held out"]["accuracy"], flush=True)
                left = np.setdiff1d(np.arange(len(pool)), known)
                if following:
                    gain = morphology.rank(model, pool[left])["information"] if way != "random" else None
                    order = rng.permutation(len(left)) if gain is None else np.argsort(-gain)
                    known = np.concatenate([known, left[order[: following - size]]])
            keep("active", f"{way} {seed}", {"curve": curve, "pool": len(pool), "config": asdict(config)})


def padded(p: NDArray[Any], labels: tuple[str, ...], every: tuple[str, ...], seen: int) -> NDArray[Any]:
    """Probabilities of all classes: one that is not among so many labels yet may be the next (Laplace)."""
    full = np.full((len(p), len(every)), 1 / (seen + len(every)))
    known = [every.index(label) for label in labels]
    full[:, known] = p * (1 - (len(every) - len(known)) / (seen + len(every)))
    return full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["galaxies", "compare", "chirality", "radio", "votes", "active"])
    parser.add_argument("--groups", nargs="+", default=["c8"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--crop", type=int, default=CROP, help="central pixels, of chirality and radio")
    parser.add_argument("--pixels", type=int, default=PIXELS)
    parser.add_argument("--images", type=int, default=12_000, help="to train on, of votes")
    parser.add_argument("--sizes", default="150,300,450,600,900,1200,1500", help="labels, of active")
    parser.add_argument("--steps", type=int, default=500, help="of each fit of active")
    parser.add_argument("--settings", default="{}", help="JSON of further fields of the configuration")
    parser.add_argument("--tag", default="", help="beside group and seed in the results")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--models", help="a folder for the trained nets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    globals()[f"part_{options.part}"](options)


if __name__ == "__main__":
    main()
