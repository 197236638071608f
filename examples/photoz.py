"""Photometric redshifts for a survey: from a catalogue to the n(z) of tomographic bins.

A survey scientist has a catalogue of galaxies with magnitudes in a few bands, and spectroscopic redshifts for
some. What redshift has each of the others, how sure can one be, and how are the galaxies of a bin distributed?

    python examples/photoz.py                       # the SDSS main galaxy sample; some minutes
    python examples/photoz.py --rows 1500 --quick   # a small run

Needs the extra ``report`` (matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deepfield import data, photoz
from deepfield.core import figures
from deepfield.core.errors import DataError
from deepfield.photoz.nz import n_of_z
from deepfield.trust import metrics


def catalogue(rows: int | None):
    """Galaxies with magnitudes, errors and spectroscopic redshifts: real ones, or simulated without a network."""
    try:
        table = data.load("sdss_mgs")
    except DataError as error:
        print(f"{error}\nsimulating a catalogue of the same kind in its place")
        table = photoz.simulate(rows or 7500, survey="sdss", seed=0)
    return table if rows is None else table[:rows]


def draw(pz, z_spec: np.ndarray, bins, number: np.ndarray):
    """Four panels: point estimates, densities, calibration, n(z)."""
    from matplotlib.figure import Figure

    grid = bins.grid
    with figures.style():
        figure = Figure(figsize=(9, 7), layout="constrained")
        (points, densities), (pit, tomographic) = figure.subplots(2, 2)
        points.hexbin(z_spec, pz.mode, gridsize=70, mincnt=1, cmap="Blues", bins="log", extent=(0, grid[-1]) * 2)
        points.plot(grid, grid, color=figures.VERMILION, lw=0.8)
        points.set(xlabel="$z_{spec}$", ylabel="$z_{phot}$ (mode)", title="One number per galaxy")
        from_sharp_to_wide = np.argsort(pz.std)[(np.array([0.1, 0.4, 0.7, 0.95]) * len(pz)).astype(int)]
        for k, i in enumerate(from_sharp_to_wide):
            colour = figures.CYCLE[k]
            densities.plot(grid, pz[[i]].pdf(grid)[0], color=colour)
            densities.axvline(z_spec[i], color=colour, lw=0.8, ls="--")
        densities.set(xlabel="$z$", ylabel="$p(z)$", title="What the model says (dashed: spectroscopic)")
        values = metrics.pit(pz, z_spec)
        pit.hist(values, 20, range=(0, 1), color=figures.SKY)
        low, high = metrics.coverage_band(1 / 20, len(values))
        pit.axhspan(low * len(values), high * len(values), color="0.85", zorder=0)
        pit.set(xlabel="PIT", ylabel="galaxies", title="Is it calibrated? (grey: if so, 95 % of bars)")
        for b, (curve, low, high) in enumerate(zip(bins.density, *bins.band())):
            colour = figures.CYCLE[b]
            tomographic.plot(grid, curve, color=colour)
            tomographic.fill_between(grid, low, high, color=colour, alpha=0.5, lw=0)
            tomographic.hist(z_spec[number == b], 40, range=(0, grid[-1]), density=True, color=colour, alpha=0.2)
        tomographic.set(xlabel="$z$", ylabel="$n(z)$", title="Tomographic bins (filled: spectroscopic)")
    return figure


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Tell the story; returns the numbers that it printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, help="use only the first so many galaxies")
    parser.add_argument("--quick", action="store_true", help="one small network")
    parser.add_argument("--out", type=Path, default=Path("photoz.png"), help="the figure")
    options = parser.parse_args(arguments)

    # 1. A catalogue. `photoz.read("galaxies.fits")` takes your own. Keep rows the model will never see.
    table = catalogue(options.rows)
    train, test = table.split(0.7, seed=0)
    z_spec = test.column("z_spec")

    # 2. Train. Some rows stop the training in time, others calibrate the intervals; neither is fitted.
    settings = {"members": 1, "epochs": 15} if options.quick else {}
    model = photoz.train(train, seed=0, **settings)

    # 3. Predict: a density for each galaxy, in the order of the table.
    pz = photoz.predict(model, test)

    # 4. Are the intervals what they claim? Of 100 galaxies 68 should lie within theirs, give or take.
    covered = float(metrics.coverage(pz, z_spec, [0.68])[0])
    low, high = metrics.coverage_band(0.68, len(test), sum(model.conformal.counts))
    print(f"\nthe 68 % intervals hold {covered:.1%} of the redshifts; expected between {low:.1%} and {high:.1%}")

    # 5. Score, as the field does.
    result = photoz.score(pz, test)
    print(result)

    # 6. Tomographic bins in the point estimate, their n(z), and how far its mean is from the truth.
    # The error is that of a finite sample; an error that all densities share is not in it.
    bins = n_of_z(pz, bins=3, edges=np.linspace(0, 1.1 * z_spec.max(), 201), point="mode", seed=0)
    number = np.searchsorted(bins.bins[1:-1], pz.mode, side="right")
    for b, (mean, error) in enumerate(zip(bins.mean, bins.mean_error)):
        own = z_spec[number == b]
        print(f"bin {b + 1}: {len(own)} galaxies, mean z {mean:.4f} ± {error:.4f}, spectroscopic {own.mean():.4f}")

    # 7. The figure.
    draw(pz, z_spec, bins, number).savefig(options.out, dpi=100)
    print(f"figure: {options.out}")
    return {"coverage_68": covered, "sigma_nmad": result.sigma_nmad, "crps": result.crps}


if __name__ == "__main__":
    main()
