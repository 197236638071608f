"""Dark energy without a likelihood: from a simulator of distances to the posterior of omega_m and w.

A cosmologist can simulate what DESI would measure in a universe of given parameters. Which parameters made the
real data? How sure can one be, do the credible regions hold what they say, is a cosmological constant excluded?

    python examples/inference.py            # some minutes
    python examples/inference.py --quick    # a small run

Needs the extra ``report`` (matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deepfield import inference
from deepfield.core.triangles import triangle
from deepfield.inference.rounds import cut_to

LABELS = {"omega_m": r"$\Omega_m$", "w": "$w$", "h_r_d": r"$h\,r_d$ [Mpc]"}


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Tell the story; returns the numbers that it printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few simulations, one small net")
    parser.add_argument("--out", type=Path, default=Path("inference.png"), help="the figure")
    options = parser.parse_args(arguments)
    n = 1500 if options.quick else 10_000
    settings = {"members": 1, "width": 32, "hidden": 24, "epochs": 30, "batch": 64} if options.quick else {}

    # 1. A prior, a simulator, data: the 13 distances of DESI DR2, compressed without loss. Yours can be any
    #    function of parameters (B, D) to data (B, K), or a table of simulations that a cluster has made.
    world = inference.Expansion("wcdm", ["desi_dr2"])
    prior, simulator, data = world.prior, world.simulate, world.observed
    print(f"{len(data)} numbers, {prior.dim} parameters: {', '.join(prior.names)}")

    # 2. Neural posterior estimation over the whole prior. Thousands of observations would cost nothing more.
    broad = inference.npe(prior, simulator, n=n, seed=0, **settings)

    # 3. One observation matters here: simulate where its posterior lies, and learn again, the posterior and the
    #    likelihood, from the same simulations.
    near = cut_to(broad, data)
    table = inference.simulate(near, simulator, n, seed=1)
    posterior = inference.train(table, near, method="npe", **settings)
    likelihood = inference.train(table, near, method="nle", **settings)
    draws = {"NPE": posterior.sample(data, 10_000, seed=0), "NLE": likelihood.sample(data, 10_000, seed=0)}

    # 4. This likelihood happens to be known, so the exact posterior can stand beside.
    exact, chains = world.exact(10_000, seed=0)
    print(f"exact chains: R-hat {chains.rhat.max():.4f}, {chains.ess.min():.0f} effective draws")
    everything = {**draws, "exact": exact}
    for i, name in enumerate(prior.names):
        told = "   ".join(f"{k} {v[:, i].mean():.4g} ± {v[:, i].std():.2g}" for k, v in everything.items())
        print(f"{name:<8} {told}")
    shift = float(np.abs((draws["NPE"].mean(0) - exact.mean(0)) / exact.std(0)).max())

    # 5. Does it keep its word? On fresh simulations of known parameters, ranks and coverage.
    fresh = inference.simulate(near, simulator, 300, seed=2)
    report = inference.diagnose(posterior, fresh)
    print(report)

    # 6. Could the data have come from this simulator at all? A point moved by ten of its errors could not.
    usual = inference.predictive_check(posterior, simulator, data, n=600)
    moved = data + 10 * np.eye(len(data))[-1]
    odd = float(posterior.p_value(moved)[0])
    print(f"p-value of the data {usual:.3f}, with one number moved by ten of its errors {odd:.4f}")

    # 7. A cosmological constant? The likelihood-ratio test, by Wilks' theorem and by simulation.
    test = inference.ratio_test(likelihood, data, {"w": -1.0}, simulator=simulator, n=200)
    print(f"w = -1: t = {test.statistic:.2f}, p = {test.p_wilks:.3f} (Wilks), {test.p_simulated:.3f} (simulated)")

    # 8. The figure.
    figure = triangle({"exact": exact, **draws}, [LABELS[name] for name in prior.names])
    figure.savefig(options.out, dpi=100)
    print(f"figure: {options.out}")
    return {"shift": shift, "p_data": usual, "p_moved": odd, "p_wilks": test.p_wilks}


if __name__ == "__main__":
    main()
