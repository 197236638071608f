"""What the peers of the photometric-redshift benchmark share: features, smoothing, search in equal time."""

from __future__ import annotations

import time

import numpy as np
from photoz_data import cde_loss, normalise
from scipy.ndimage import gaussian_filter1d


class Features:
    """Features (N, D) from magnitudes and errors (N, 2 B); fills and limits learned from the training rows.

    kind: "mag", "colour" (one magnitude and neighbouring colours), "both", "pairs" (magnitudes and every
    colour); err: append log10 errors; gaps: "fill", or "nan" for codes that know NaN; clip: to the 0.5 and
    99.5 percentiles of the training rows.
    """

    def __init__(self, x: np.ndarray, kind: str, err: bool, gaps: str = "fill", clip: bool = False):
        self.kind, self.err, self.gaps, self.clip = kind, err, gaps, clip
        half = x.shape[1] // 2
        mag, error = x[:, :half], x[:, half:]
        self.limit, self.median = np.zeros(half), np.zeros(half)
        self.median_err = np.nanmedian(np.log10(np.maximum(error, 1e-4)), axis=0)
        for b in range(half):
            seen = np.isfinite(mag[:, b])
            near = seen & (error[:, b] > 0.8) & (error[:, b] < 1.4)
            self.limit[b] = np.median(mag[near, b]) if near.sum() >= 10 else mag[seen, b].max()
            self.median[b] = np.median(mag[seen, b])
        if clip:
            self.clip = False
            self.bounds = np.nanpercentile(self(x), [0.5, 99.5], axis=0)
            self.clip = True

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Features of rows x (N, 2 B)."""
        half = x.shape[1] // 2
        mag, error = x[:, :half].copy(), np.log10(np.maximum(x[:, half:], 1e-4))
        undetected, missing = np.isposinf(mag), np.isnan(mag)
        if self.gaps == "nan":
            mag[undetected] = np.nan
        else:
            mag = np.where(undetected, self.limit, np.where(missing, self.median, mag))
            error = np.where(undetected, 0.0, np.where(np.isnan(error), self.median_err, error))
        step = -np.diff(mag, axis=1)
        first, second = np.triu_indices(half, 1)
        parts = {
            "mag": [mag],
            "colour": [mag[:, half // 2, None], step],
            "both": [mag, step],
            "pairs": [mag, mag[:, first] - mag[:, second]],
        }[self.kind]
        out = np.concatenate([*parts, error] if self.err else parts, axis=1)
        return np.clip(out, *self.bounds) if self.clip else out


class Smoother:
    """Gaussian smoothing of histograms on the grid, of one width or in proportion to each row's spread."""

    def __init__(self, grid: np.ndarray):
        self.grid, self.step = grid, grid[1] - grid[0]
        self.levels = self.step * np.geomspace(0.4, 60, 26)

    def deposit(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower grid cell and the share of the upper one for redshifts z (cloud in cell)."""
        x = np.clip((z - self.grid[0]) / self.step, 0, len(self.grid) - 1.001)
        return x.astype(np.int64), x - x.astype(np.int64)

    def __call__(self, hist: np.ndarray, mode: str, width: float) -> np.ndarray:
        """Densities (N, G) from histograms (N, G); mode "const" (width in redshift) or "scaled"."""
        wanted = np.full(len(hist), width)
        if mode == "scaled":
            cdf = np.cumsum(hist, axis=1)
            cdf /= cdf[:, -1:]
            wanted = width * self.step * ((cdf < 0.84).sum(1) - (cdf < 0.16).sum(1) + 1) / 2
        level = np.abs(np.log(wanted)[:, None] - np.log(self.levels)[None, :]).argmin(1)
        out = np.empty(hist.shape, np.float32)
        for i in np.unique(level):
            sigma = self.levels[i] / self.step
            out[level == i] = gaussian_filter1d(hist[level == i].astype(np.float32), sigma, mode="constant")
        return normalise(out.astype(np.float64), self.grid)

    def best(self, hist: np.ndarray, z: np.ndarray) -> tuple[float, dict]:
        """The mode and width of least CDE loss on redshifts z (N,): a coarse search, then its neighbours."""
        ladders = {"const": self.levels[:18], "scaled": np.geomspace(0.04, 1.2, 11)}
        tried: dict[tuple[str, int], float] = {}

        def attempt(mode: str, i: int) -> None:
            if (mode, i) not in tried and 0 <= i < len(ladders[mode]):
                tried[mode, i] = cde_loss(self(hist, mode, ladders[mode][i]), self.grid, z)

        for mode, ladder in ladders.items():
            for i in range(0, len(ladder), 3):
                attempt(mode, i)
        mode, i = min(tried, key=tried.get)
        attempt(mode, i - 1)
        attempt(mode, i + 1)
        mode, i = min(tried, key=tried.get)
        return tried[mode, i], {"mode": mode, "width": float(ladders[mode][i])}


class Peer:
    """One code: ``fit`` tunes and trains, ``pdf`` gives densities."""

    name, package = "", ""
    search_rows = 10**9  # a slow code searches on this many training rows at most

    def __init__(self, grid: np.ndarray, seed: int = 0):
        self.grid, self.seed, self.log = grid, seed, []
        self.smooth = Smoother(grid)

    def propose(self, rng: np.random.Generator, trial: int) -> dict:
        """Settings of one candidate; trial 0 is the documented default."""
        raise NotImplementedError

    def train(
        self, s: dict, x: np.ndarray, z: np.ndarray, xv: np.ndarray, zv: np.ndarray, final: bool, limit: float
    ):
        """A fitted model, which later calls pass back."""
        raise NotImplementedError

    def finish(self, model, xv: np.ndarray, zv: np.ndarray) -> tuple[float, dict]:
        """Choose the free widths of the density on the validation rows: (CDE loss, settings)."""
        return cde_loss(self.density(model, {}, xv), self.grid, zv), {}

    def density(self, model, post: dict, x: np.ndarray) -> np.ndarray:
        """Densities (N, G) on the peer's own grid."""
        raise NotImplementedError

    def native(self, x: np.ndarray):
        """The code's own output without a grid (parameters), for the rate; by default the densities."""
        return self.density(self.model, self.post, x)

    def fit(self, x_train, z_train, x_val, z_val, budget_s: float, settings: dict | None = None) -> Peer:
        """Search for budget_s processor seconds, then train with the best settings; given settings, only train.

        Rows of x (N, 2 B): magnitudes (NaN missing, +inf not detected) and their errors. The final model is
        the one fitted to all rows, unless the search's own was better on the validation rows.
        """
        rng, start, wall = np.random.default_rng(self.seed), time.process_time(), time.perf_counter()
        rows = np.sort(rng.permutation(len(z_train))[: self.search_rows])
        self.best, self.columns, found = None, x_train.shape[1], []
        data = (x_train[rows], z_train[rows], x_val, z_val)
        kept = (np.inf, None, {})
        if settings is not None:
            self.best = settings
        for trial in range(10**6 if settings is None else 0):
            spent = time.process_time() - start
            if trial and spent * (trial + 1) / trial > budget_s:
                break
            fresh = (self.propose(rng, trial) for _ in range(50))
            settings = next((s for s in fresh if all(s != old for *_, old in found)), None)
            if settings is None:  # every candidate of a small space has been seen
                break
            loss, model, post = self.attempt(settings, data, False, budget_s / 8)
            found.append((loss, trial, settings))
            self.best = min(found)[2]
            if loss < kept[0]:
                kept = (loss, model, post)
        self.tune_s, self.tune_wall_s = time.process_time() - start, time.perf_counter() - wall
        start = time.process_time()
        final = self.attempt(self.best, (x_train, z_train, x_val, z_val), True, budget_s)
        self.fit_s, self.settings = time.process_time() - start, self.best
        self.cde_val, self.model, self.post = min(final, kept, key=lambda tried: tried[0])
        if self.model is None:
            raise RuntimeError(f"no candidate of {self.name} could be fitted: {self.log[-1]}")
        return self

    def attempt(self, settings: dict, data: tuple, final: bool, limit: float) -> tuple[float, object, dict]:
        """Fit one candidate: (validation loss, model, widths); a numerical failure is logged."""
        start = time.process_time()
        entry = {"settings": settings, "final": final, "cde_val": None}
        try:
            model = self.train(settings, *data, final, limit)
            loss, post = self.finish(model, *data[2:])
            entry |= {"post": post, "cde_val": loss}
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            loss, model, post, entry["error"] = np.inf, None, {}, repr(error)
        self.log.append(entry | {"seconds": round(time.process_time() - start, 2)})
        return (loss if np.isfinite(loss) else np.inf), model, post

    def pdf(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Densities (N, G) on any grid, each of unit integral."""
        own = self.density(self.model, self.post, x)
        if len(grid) == len(self.grid) and np.allclose(grid, self.grid):
            return own
        return normalise(np.stack([np.interp(grid, self.grid, row, 0, 0) for row in own]), grid)
