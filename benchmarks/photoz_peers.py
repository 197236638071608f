"""The public codes that deepfield is compared with, behind one interface, each tuned in the same time.

Run as ``python benchmarks/photoz_peers.py --data boss --seed 0 --peers flexzboost gpz forest lightgbm knn
--budget 120 --out DIR`` in the environment of requirements-peers.txt, with DEEPFIELD_DATA set.

Rules, the same for every peer: random search with the same training and validation rows for ``--budget``
seconds of processor time on one thread (the first candidate is the code's usual setting; another is started
only while the mean candidate still fits), by the CDE loss on the validation rows; then one fit to all
training rows with the chosen settings. FlexZBoost and GPz search on 4,000 training rows at most, and GPz's
fit ends after the same time at the latest. The search also chooses the features (magnitudes, colours, log
errors) and the treatment of gaps: non-detections at the 1-sigma limiting magnitude and missing bands at the
training median, or NaN where the code knows it. Validation rows serve early stopping (LightGBM, GPz) and the
few free widths of each density, never as training rows. Test rows are touched once, by the prediction that
is written.

Writes DIR/<peer>.npz (``grid`` (G,), ``pdf_test`` and ``pdf_val`` float32 (N, G), ``rows_test``,
``rows_val``, ``z_test``, ``z_val``) and DIR/<peer>.json (settings, tuning log, times, rates, quick scores,
versions). A peer that cannot be imported, or fails, is written as such, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
from photoz_data import DATA, cde_loss, grid, load, normalise, scores, split
from photoz_peer_base import Features, Peer
from photoz_peers_sklearn import Forest, Neighbours

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class FlexZBoost(Peer):
    """Cosine series whose coefficients xgboost regresses (Izbicki & Lee 2017; Dalmasso et al. 2020).

    flexcode 0.2.3 ``tune`` compares validation redshifts in [0, 1] with a grid in redshift, so its basis
    choice is used, and bump threshold and sharpening, by its own functions, are chosen here on the unit grid.
    """

    name, package = "flexzboost", "flexcode"
    search_rows = 4000

    def propose(self, rng, trial):
        """First RAIL's basis and features, on shallower, slower trees than its own (which overfit)."""
        s = {"basis": 35, "kind": "colour", "err": True, "gaps": "fill", "max_depth": 5, "learning_rate": 0.1}
        s |= {
            "n_estimators": 80,
            "min_child_weight": 5.0,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
            "max_bin": 64,
        }
        if trial == 0:
            return s
        return s | {
            "basis": int(rng.choice([25, 35, 50, 70])),
            "kind": str(rng.choice(["colour", "both", "pairs"])),
            "err": bool(rng.random() < 0.5),
            "gaps": str(rng.choice(["fill", "nan"])),
            "max_depth": int(rng.integers(5, 9)),
            "learning_rate": float(rng.choice([0.06, 0.1, 0.15, 0.2])),
            "n_estimators": int(rng.integers(40, 101)),
            "min_child_weight": float(rng.choice([2, 5, 15, 40])),
            "subsample": float(rng.choice([0.6, 0.8, 1.0])),
            "colsample_bytree": float(rng.choice([0.5, 0.7, 1.0])),
        }

    def train(self, s, x, z, xv, zv, final, limit):
        """Fit one xgboost regressor for each basis function."""
        from flexcode import FlexCodeModel
        from flexcode.regression_models import XGBoost

        features = Features(x, s["kind"], s["err"], s["gaps"])
        params = {k: v for k, v in s.items() if k not in ("basis", "kind", "err", "gaps")}
        params |= {"objective": "reg:squarederror", "n_jobs": 1, "random_state": self.seed}
        one_core = functools.partial(XGBoost, n_jobs=1)
        low, high = self.grid[0], self.grid[-1]
        model = FlexCodeModel(one_core, s["basis"], z_min=low, z_max=high, regression_params=params)
        model.fit(features(x), np.clip(z, low, high))
        return features, model

    def finish(self, model, xv, zv):
        """Basis by flexcode's criterion, then bump threshold, then sharpening, by CDE loss."""
        from flexcode.post_processing import remove_bumps, sharpen

        features, flex = model
        rows = slice(None, 300)
        flex.bump_threshold = flex.sharpen_alpha = None
        flex.tune(features(xv), zv)
        unit = np.linspace(0, 1, len(self.grid))
        span, z = self.grid[-1] - self.grid[0], (zv[rows] - self.grid[0]) / (self.grid[-1] - self.grid[0])
        cdes = flex.predict(features(xv[rows]), len(unit))[0] * span

        def choose(cdes, act, options):
            candidates = [(cdes, None)]
            for option in options:
                candidates.append((cdes.copy(), option))
                act(candidates[-1][0], option)
            return candidates[int(np.argmin([cde_loss(c, unit, z) for c, _ in candidates]))]

        cdes, flex.bump_threshold = choose(cdes, remove_bumps, (0.05, 0.1, 0.2))
        cdes, flex.sharpen_alpha = choose(cdes, sharpen, (0.85, 1.15, 1.3, 1.6, 2.0))
        loss = cde_loss(self.density(model, {}, xv), self.grid, zv)
        return loss, {
            "bump": flex.bump_threshold,
            "sharpen": flex.sharpen_alpha,
            "kept": len(flex.best_basis),
        }

    def density(self, model, post, x):
        """Densities by flexcode's own prediction."""
        return normalise(model[1].predict(model[0](x), len(self.grid))[0], self.grid)

    def native(self, x):
        """Series coefficients."""
        return self.model[1].predict_coefs(self.model[0](x))


class GPz(Peer):
    """Sparse heteroscedastic Gaussian process (Almosallam et al. 2016), the code inside pz-rail-gpz-v1."""

    name, package = "gpz", "pz-rail-gpz-v1"
    search_rows = 4000

    def propose(self, rng, trial):
        """RAIL's defaults first: 50 bases with full covariances, magnitudes and log errors."""
        if trial == 0:
            return {"bases": 50, "method": "VC", "err": True, "clip": False}
        return {
            "bases": int(rng.choice([35, 50, 75, 100])),
            "method": str(rng.choice(["VC", "VC", "GC", "GC", "VD", "VL"])),
            "err": bool(rng.random() < 0.3),
            "clip": bool(rng.random() < 0.5),
        }

    def train(self, s, x, z, xv, zv, final, limit):
        """L-BFGS on the evidence, best step by validation likelihood, stopped after `limit` seconds."""
        from rail.estimation.algos._gpz_util import GP

        end = time.process_time() + limit

        class Timed(GP):
            def callbackF(self, theta):
                super().callbackF(theta)
                if time.process_time() > end or self.attempts >= self.maxAttempts:
                    raise StopIteration

        features = Features(x, "mag", s["err"], clip=s["clip"])
        both, target = np.concatenate([features(x), features(xv)]), np.concatenate([z, zv])[:, None]
        training = np.arange(len(both)) < len(x)
        model = Timed(
            s["bases"], method=s["method"], joint=True, heteroscedastic=True, decorrelate=True, seed=self.seed
        )
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            model.train(
                both, target, training=training,
                validation=~training, maxIter=500 if final else 200, maxAttempts=50,
            )  # fmt: skip
        return features, model

    def density(self, model, post, x):
        """Gaussians on the grid."""
        mu, var = self.moments(model, x)
        return normalise(np.exp(-0.5 * (self.grid - mu) ** 2 / var) / np.sqrt(var), self.grid)

    def moments(self, model, x):
        """Mean and total variance, each (N, 1)."""
        mu, var, *_ = model[1].predict(model[0](x))
        return mu, np.maximum(var, 1e-10)

    def native(self, x):
        """Mean and variance."""
        return self.moments(self.model, x)


class LightGBM(Peer):
    """Boosted trees in two strong forms, and the search chooses: location and scale, or classes of redshift.

    "scale": the mean by four cross-fitted regressors, the width by a regressor of their log absolute
    residuals, the shape Gaussian or that of the standardised residuals. "classes": softmax over quantile
    bins, smoothed.
    """

    name, package = "lightgbm", "lightgbm"

    def propose(self, rng, trial):
        """LightGBM's own trees first."""
        if trial == 0:
            return {
                "form": "scale",
                "kind": "both",
                "err": True,
                "gaps": "nan",
                "num_leaves": 31,
                "learning_rate": 0.1,
            }
        form = "scale" if rng.random() < 0.6 else "classes"
        return {
            "form": form,
            "kind": str(rng.choice(["colour", "both", "pairs"])),
            "err": bool(rng.random() < 0.5),
            "gaps": str(rng.choice(["nan", "fill"])),
            "num_leaves": int(rng.choice([15, 31, 63, 127] if form == "scale" else [5, 8, 12])),
            "learning_rate": float(rng.choice([0.03, 0.05, 0.1] if form == "scale" else [0.1, 0.2])),
            "min_child_samples": int(rng.choice([10, 20, 40])),
            "colsample_bytree": float(rng.choice([0.3, 0.6, 1.0])),
            "reg_lambda": float(rng.choice([0.0, 1.0, 10.0])),
            "bins": int(rng.choice([30, 60])) if form == "classes" else 0,
        }

    def train(self, s, x, z, xv, zv, final, limit):
        """Early stopping on the validation rows throughout."""
        import lightgbm as lgb

        features = Features(x, s["kind"], s["err"], s["gaps"])
        common = {k: v for k, v in s.items() if k not in ("form", "kind", "err", "gaps", "bins")}
        common |= {"n_jobs": 1, "verbose": -1, "random_state": self.seed}
        if "reg_lambda" in common:
            common |= {"subsample": 0.8, "subsample_freq": 1}
        fx, fv, stop = features(x), features(xv), [lgb.early_stopping(30, verbose=False)]
        if s["form"] == "classes":
            edges = np.unique(np.quantile(z, np.linspace(0, 1, s["bins"] + 1)))
            edges[0], edges[-1] = self.grid[0], self.grid[-1]
            label = lambda z: np.clip(np.searchsorted(edges, z, "right") - 1, 0, len(edges) - 2)  # noqa: E731
            known = np.isin(label(zv), label(z))
            model = lgb.LGBMClassifier(n_estimators=150, **common)
            model.fit(fx, label(z), eval_set=[(fv[known], label(zv)[known])], callbacks=stop)
            spread = np.zeros((len(edges) - 1, len(self.grid)))
            np.add.at(spread, (label(z), self.smooth.deposit(z)[0]), 1.0)
            return features, "classes", model, spread / spread.sum(1, keepdims=True)
        fold = np.random.default_rng(self.seed).integers(0, 4, len(z))
        means, residual = [], np.empty(len(z))
        for k in range(4):
            model = lgb.LGBMRegressor(n_estimators=1500, **common)
            model.fit(fx[fold != k], z[fold != k], eval_set=[(fv, zv)], callbacks=stop)
            residual[fold == k] = z[fold == k] - model.predict(fx[fold == k])
            means.append(model)
        floor = 0.05 * np.median(np.abs(residual))
        error_v = np.log(np.abs(zv - np.mean([m.predict(fv) for m in means], 0)) + floor)
        width = lgb.LGBMRegressor(n_estimators=500, **(common | {"num_leaves": 15, "learning_rate": 0.05}))
        width.fit(fx, np.log(np.abs(residual) + floor), eval_set=[(fv, error_v)], callbacks=stop)
        return features, "scale", (means, width), residual / np.exp(width.predict(fx))

    def raw(self, model, x):
        """Class probabilities, or mean and width."""
        fx = model[0](x)
        if model[1] == "classes":
            return model[2].predict_proba(fx)
        return np.mean([m.predict(fx) for m in model[2][0]], 0), np.exp(model[2][1].predict(fx))

    def finish(self, model, xv, zv):
        """Choose the smoothing, or shape and scale."""
        raw = self.raw(model, xv)
        if model[1] == "classes":
            return self.smooth.best(raw @ model[3], zv)
        trials = [{"shape": f, "scale": float(c)} for f in ("gauss", "own") for c in np.geomspace(0.5, 2.2, 12)]
        losses = [cde_loss(self.shaped(model, raw, **t), self.grid, zv) for t in trials]
        return min(losses), trials[int(np.argmin(losses))]

    def shaped(self, model, raw, shape, scale):
        """Location-scale densities (N, G)."""
        mu, width = raw[0][:, None], scale * np.maximum(raw[1], 1e-4)[:, None]
        t = (self.grid - mu) / width
        if shape == "gauss":
            return normalise(np.exp(-0.5 * t**2) / width, self.grid)
        nodes = np.linspace(-12, 12, 481)
        hist = np.histogram(np.clip(model[3], -12, 12), np.append(nodes - 0.025, 12.025))[0]
        kernel = np.exp(-0.5 * (np.arange(-20, 21) * 0.05 / 0.2) ** 2)
        return normalise(np.interp(t, nodes, np.convolve(hist, kernel, "same"), 0, 0) / width, self.grid)

    def density(self, model, post, x):
        """Densities (N, G)."""
        raw = self.raw(model, x)
        return self.smooth(raw @ model[3], **post) if model[1] == "classes" else self.shaped(model, raw, **post)

    def native(self, x):
        """Class probabilities, or mean and width."""
        return self.raw(self.model, x)


PEERS = {peer.name: peer for peer in (FlexZBoost, GPz, Forest, LightGBM, Neighbours)}


def rate(act, x: np.ndarray) -> float:
    """Objects per second of processor time (one thread), best of three."""
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        act(x)
        best = min(best, time.process_time() - start)
    return len(x) / best


def write(out: Path, name: str, report: dict, arrays: dict | None = None) -> None:
    """Write DIR/<peer>.npz and .json under temporary names, then rename; without arrays an older .npz goes."""
    if arrays is None:
        (out / f"{name}.npz").unlink(missing_ok=True)
    if arrays:
        np.savez(out / f".{name}.npz", **arrays)
        os.replace(out / f".{name}.npz", out / f"{name}.npz")
    (out / f".{name}.json").write_text(json.dumps(report, indent=1))
    os.replace(out / f".{name}.json", out / f"{name}.json")


def run(name: str, data: str, seed: int, budget: float, out: Path, tuned: Path | None = None) -> dict:
    """Tune (or take the settings of a tuned run), train, time and write one peer; returns its report."""
    table, z_grid = load(data), grid(data)
    x, z = np.concatenate([table["mag"], table["err"]], axis=1), table["z"]
    train, val, test = split(len(z), seed)
    peer = PEERS[name](z_grid, seed)
    settings = json.loads((tuned / f"{name}.json").read_text())["settings"] if tuned else None
    peer.fit(x[train], z[train], x[val], z[val], budget, settings)
    pdf_test, pdf_val = peer.pdf(x[test], z_grid), peer.pdf(x[val], z_grid)
    report = {
        "peer": name, "data": data, "seed": seed, "budget_s": budget, "status": "ok", "criterion": "CDE loss",
        "tuned": "here" if tuned is None else "elsewhere",
        "versions": {p: importlib.metadata.version(p) for p in {peer.package, "scikit-learn", "numpy"}},
        "settings": peer.settings, "post": peer.post, "cde_val": peer.cde_val, "candidates": len(peer.log),
        "tune_s": peer.tune_s, "tune_wall_s": peer.tune_wall_s, "fit_s": peer.fit_s,
        "rate_pdf": rate(lambda v: peer.pdf(v, z_grid), x[test]),
        "rate_native": rate(peer.native, x[test]), "log": peer.log,
        "scores": scores(pdf_test, z_grid, z[test]),
    }  # fmt: skip
    arrays = {
        "grid": z_grid, "pdf_test": pdf_test.astype(np.float32), "pdf_val": pdf_val.astype(np.float32),
        "rows_test": test, "rows_val": val, "z_test": z[test], "z_val": z[val],
    }  # fmt: skip
    write(out, name, report, arrays)
    return report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, choices=list(DATA))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--budget", type=float, default=120.0, help="processor seconds to tune each peer")
    parser.add_argument(
        "--settings-from",
        type=Path,
        help="folder of another seed's run: take its settings, and tune nothing. They were chosen on rows some of "
        "which this seed tests on, which favours the peers: to save time only; by default each seed is tuned",
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    warnings.filterwarnings("ignore", message=".*eval_set.*")
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.peers:
        try:
            r = run(name, args.data, args.seed, args.budget, args.out, args.settings_from)
        except Exception as error:  # the others still run, and this one is named
            failed += 1
            status = "not installed" if isinstance(error, ImportError) else "failed"
            write(args.out, name, {"peer": name, "status": status, "error": traceback.format_exc()})
            print(f"{args.data} {args.seed} {name}: {status}: {error}", flush=True)
            continue
        numbers = " ".join(f"{k} {v:.4f}" for k, v in r["scores"].items())
        print(
            f"{args.data} {args.seed} {name}: {numbers} | {r['candidates']} candidates {r['tune_s']:.0f} s, "
            f"fit {r['fit_s']:.1f} s, {r['rate_pdf']:.0f}/s densities, {r['rate_native']:.0f}/s native",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in THREADS):  # before numpy loads its threads
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    raise SystemExit(main())
