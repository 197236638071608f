"""The two peers of the photometric-redshift benchmark that use scikit-learn: forest and neighbours."""

from __future__ import annotations

import numpy as np
from photoz_peer_base import Features, Peer


class Forest(Peer):
    """Random forest: the training redshifts in an object's leaves, smoothed (Meinshausen 2006)."""

    name, package = "forest", "scikit-learn"

    def propose(self, rng, trial):
        """Like TPZ first: a third of the features, leaves of five."""
        if trial == 0:
            return {"kind": "both", "err": True, "gaps": "fill", "leaf": 5, "features": 0.33}
        return {
            "kind": str(rng.choice(["colour", "both", "pairs"])),
            "err": bool(rng.random() < 0.5),
            "gaps": str(rng.choice(["fill", "nan"])),
            "leaf": int(rng.choice([1, 2, 3, 5, 7, 10])),
            "features": float(rng.choice([0.5, 0.7, 1.0])),
        }

    def train(self, s, x, z, xv, zv, final, limit):
        """Grow the trees (40 to search, 150 at the end) and file every training row in its leaves."""
        from scipy.sparse import csr_array
        from sklearn.ensemble import RandomForestRegressor

        features = Features(x, s["kind"], s["err"], s["gaps"])
        forest = RandomForestRegressor(
            150 if final else 40,
            min_samples_leaf=s["leaf"],
            max_features=s["features"],
            random_state=self.seed,
        ).fit(features(x), z)
        offsets = np.cumsum([0] + [tree.tree_.node_count for tree in forest.estimators_])
        leaves = forest.apply(features(x)) + offsets[:-1]
        cell, share = self.smooth.deposit(z)
        cell, share = (np.repeat(v, leaves.shape[1]) for v in (cell, share))
        row, size = leaves.ravel(), np.bincount(leaves.ravel(), minlength=offsets[-1])
        weight = 1.0 / size[row]
        values = np.concatenate([weight * (1 - share), weight * share]).astype(np.float32)
        index = (np.concatenate([row, row]), np.concatenate([cell, cell + 1]))
        return features, forest, offsets[:-1], csr_array((values, index), shape=(offsets[-1], len(self.grid)))

    def histogram(self, model, x):
        """Weights of the training redshifts on the grid, (N, G)."""
        from scipy.sparse import csr_array

        features, forest, offsets, filed = model
        leaves = forest.apply(features(x)) + offsets
        n, trees = leaves.shape
        ones = np.full(n * trees, 1 / trees, np.float32)
        picks = csr_array((ones, leaves.ravel(), np.arange(0, n * trees + 1, trees)), shape=(n, filed.shape[0]))
        return (picks @ filed).toarray()

    def finish(self, model, xv, zv):
        """Choose the smoothing."""
        return self.smooth.best(self.histogram(model, xv), zv)

    def density(self, model, post, x):
        """Smoothed leaf densities."""
        return self.smooth(self.histogram(model, x), **post)


class Neighbours(Peer):
    """The k nearest training rows, smoothed; k, the weighting and a scale for each feature are tuned."""

    name, package = "knn", "scikit-learn"

    def propose(self, rng, trial):
        """Standard scaling first; every second candidate after ten perturbs the best scales."""
        s = {"kind": "colour", "err": False, "clip": True, "k": 20, "decay": 0.0, "scales": None}
        if trial == 0:
            return s
        if trial > 10 and trial % 2 and self.best:
            s = dict(self.best)
        else:
            s |= {"kind": str(rng.choice(["mag", "colour"])), "err": bool(rng.random() < 0.5)}
        old = np.zeros(self.columns) if s["scales"] is None else np.log(s["scales"])
        s["scales"] = [float(v) for v in np.exp(old + 0.4 * rng.standard_normal(self.columns))]
        return s | {
            "k": int(rng.choice([10, 15, 20, 30, 45, 70, 100])),
            "decay": float(rng.choice([0, 1, 2, 4])),
        }

    def train(self, s, x, z, xv, zv, final, limit):
        """Scale the features, build the tree."""
        from sklearn.neighbors import NearestNeighbors

        features = Features(x, s["kind"], s["err"], clip=s["clip"])
        fx = features(x)
        scale = (1.0 if s["scales"] is None else np.array(s["scales"])[: fx.shape[1]]) / (fx.std(0) + 1e-9)
        tree = NearestNeighbors(n_neighbors=s["k"], n_jobs=1).fit(fx * scale)
        return features, scale, tree, self.smooth.deposit(z), s["decay"]

    def histogram(self, model, x):
        """Weights of the neighbours' redshifts on the grid, (N, G)."""
        features, scale, tree, (cell, share), decay = model
        far, near = tree.kneighbors(features(x) * scale)
        weight = np.exp(-0.5 * decay * (far / (far[:, -1:] + 1e-12)) ** 2)
        g = len(self.grid)
        flat = np.arange(len(x))[:, None] * g + cell[near]
        hist = np.bincount(flat.ravel(), (weight * (1 - share[near])).ravel(), minlength=len(x) * g)
        hist += np.bincount(flat.ravel() + 1, (weight * share[near]).ravel(), minlength=len(x) * g)
        return hist.reshape(len(x), g) / weight.sum(1, keepdims=True)

    def finish(self, model, xv, zv):
        """Choose the smoothing."""
        return self.smooth.best(self.histogram(model, xv), zv)

    def density(self, model, post, x):
        """Smoothed neighbours."""
        return self.smooth(self.histogram(model, x), **post)
