"""How many images there are, found without the solver."""

import math

import numpy as np
import torch

from deepfield.lensing.profiles import sie_deflection

POINTS = 3001


def isothermal_counts(q, phi, kappa, gamma1, gamma2, beta_x, beta_y):
    """Images of isothermal ellipsoids of theta_E = 1 with external fields, all arrays (n,).

    The deflection of an isothermal lens depends on the direction e(t) alone, so that r A e(t) = alpha(t) + beta
    with the external map A: images are the zeros of f = (alpha + beta) x (A e) on the circle where r is positive.
    """

    def zero_function(t):
        c, s = np.cos(t), np.sin(t)
        args = (torch.tensor(v)[:, None] for v in (q, phi))
        ax, ay = (v.numpy() for v in sie_deflection(torch.tensor(c), torch.tensor(s), 1.0, *args))
        px, py = ax + beta_x[:, None], ay + beta_y[:, None]
        a = (1 - kappa - gamma1)[:, None] * c - gamma2[:, None] * s
        b = -gamma2[:, None] * c + (1 - kappa + gamma1)[:, None] * s
        return px * b - py * a, px * a + py * b

    t = np.linspace(0, 2 * np.pi, POINTS) + 0.123456  # no axis is on a node
    f, r = zero_function(np.broadcast_to(t, (len(q), POINTS)))
    simple = ((f[:, 1:] * f[:, :-1] < 0) & (r[:, 1:] > 0)).sum(1)
    # Two zeros within a step: a turning point whose parabola reaches the other side.
    before, middle, after = f[:, :-2], f[:, 1:-1], f[:, 2:]
    side = np.sign(middle)
    turns = (side * before > side * middle) & (side * after >= side * middle)
    turns &= (before * middle > 0) & (after * middle > 0) & (r[:, 1:-1] > 0)
    bend, lean = 0.5 * (before + after) - middle, 0.5 * (after - before)
    lowest = middle - lean**2 / (4 * np.where(turns, bend, 1.0))
    return simple + 2 * (turns & (lowest * middle < 0)).sum(1)


def random_isothermal(n, seed):
    """Lenses and sources of all kinds.

    Round and flat, with shear along their axis and across; sources on axes, in the very centre, far out, and
    within the tiny astroid of a nearly round lens.
    """
    rng = np.random.default_rng(seed)
    u = rng.uniform
    q, phi = u(0.2, 1, n), u(-np.pi, np.pi, n)
    q[::10] = 1 - 10 ** -u(2, 5.5, len(q[::10]))
    gamma, turn, kappa = u(0, 0.2, n), u(0, np.pi, n), u(-0.1, 0.2, n)
    gamma[::3], kappa[::3] = 0, 0
    turn[1::4] = phi[1::4]
    size, angle = u(0, 1.5, n), u(-np.pi, np.pi, n)
    size[::2] *= 0.3 * (1 - q[::2])
    axis = np.arange(n) % 5 == 1
    angle[axis] = (phi + rng.integers(0, 4, n) * np.pi / 2)[axis]
    upright = np.arange(n) % 11 == 0  # exactly on the axes of a grid
    phi[upright] = rng.choice([0, np.pi / 2], upright.sum())
    beta_x, beta_y = size * np.cos(angle), size * np.sin(angle)
    gamma1, gamma2 = gamma * np.cos(2 * turn), gamma * np.sin(2 * turn)
    beta_y[upright], gamma2[upright] = 0, 0
    beta_x[7::101], beta_y[7::101] = 0, 0
    return q, phi, kappa, gamma1, gamma2, beta_x, beta_y


def triangle_count(lens, source, centre, *, low=1e-5, high=8.0, rings=1200, spokes=1200):
    """Triangles of a polar mesh whose map to the source plane holds the source."""
    r = torch.logspace(math.log10(low), math.log10(high), rings, dtype=torch.float64)
    t = torch.linspace(0, 2 * math.pi, spokes + 1, dtype=torch.float64) + 0.0123
    x, y = centre[0] + r[:, None] * torch.cos(t), centre[1] + r[:, None] * torch.sin(t)
    bx, by = (v - s for v, s in zip(lens.source(x, y), source))

    def side(a, b):
        return bx[a] * by[b] - by[a] * bx[b] > 0

    one, two = (slice(None, -1), slice(None, -1)), (slice(1, None), slice(None, -1))
    three, four = (slice(1, None), slice(1, None)), (slice(None, -1), slice(1, None))
    count = 0
    for corners in ((one, two, three), (one, three, four)):
        signs = [side(corners[k], corners[(k + 1) % 3]) for k in range(3)]
        count += int(((signs[0] == signs[1]) & (signs[1] == signs[2])).sum())
    return count
