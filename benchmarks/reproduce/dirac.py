"""Dirac-GAN: the smallest GAN there is, where every method's rate of convergence can be said beforehand. Half a minute.

    python benchmarks/reproduce/dirac.py

Mescheder, Geiger & Nowozin 2018, "Which training methods for GANs do actually converge?", section 2, 3 and table 1.
The data are the one point 0, the generator draws the one point θ, and D(x) = ψ x. Both are right at ψ = θ = 0.

    gradient descent with η = 0.05, 2,000 steps, float64; both move at once, or G meets the D that has just moved

**What is predicted.** With real x = 0 and fake x = θ, the losses' slopes near (0, 0) are

    ∂L_D/∂ψ ≈ a θ + c ψ            ∂L_G/∂θ ≈ −a ψ + g θ

The coupling is a = 1/2 for the logistic losses, because the slope of softplus at 0 is σ(0) = 1/2, and a = 1 for
Wasserstein's. What else a method adds is a damping c of D or g of G:

    none                    c = g = 0
    R1, R2, weight γ        γ/2 E ‖∇D‖² = γ/2 ψ², whose slope is γ ψ: c = γ. Both have the same, since D is linear
    instance noise σ        D sees x ± σ. The mean of σ(ψ x) x over x = θ ± σ is θ/2 + ψ σ²/4 + ..., and the real
                            points give ψ σ²/4 too: c = σ²/2. (Two points stand for N(0, σ²): to this order only
                            the variance counts, and nothing is left to chance.)
    consensus, weight γ     both add γ/2 (‖∂L_D/∂ψ‖² + ‖∂L_G/∂θ‖²) ≈ γ/2 a² (θ² + ψ²): c = g = γ a²
                            (Mescheder, Nowozin & Geiger 2017, "The numerics of GANs")
    WGAN-GP                 (|ψ| − 1)² has a kink at ψ = 0, so there is nothing to linearise; D never comes to rest

So the continuous flow has the matrix ((−c, −a), (a, −g)) with the eigenvalues −(c + g)/2 ± √((c − g)²/4 − a²). For
R1 these are −γ/2 ± √(γ²/4 − a²), as in the paper; the critical γ is 2a. A step multiplies (ψ, θ) by

    simultaneous   ((1 − ηc,  −ηa),  (ηa,           1 − ηg))
    alternating    ((1 − ηc,  −ηa),  (ηa (1 − ηc),  1 − ηg − η²a²))      since G's slope has the new ψ in it

and the rate is its spectral radius. Unpenalised, that is √(1 + η²a²) > 1 for simultaneous moves: out it spirals,
and the smaller the step the slower. For alternating moves it is 1: it circles. (The critical γ is the flow's. A
simultaneous step has its double eigenvalue there too, an alternating one at a γ slightly beside it.)

**What is measured.** For the rate: 2,000 steps from (1e-6, 1e-6), where only the linear part counts. Every linear
map of the plane makes states that obey s(n + 2) = t s(n + 1) − d s(n). The least-squares t and d of all 2,000
states give the rate: the larger |λ| with λ² = t λ − d. And for convergence: 2,000 steps from (1, 1), the whole
nonlinear game. It converges if it ends within 1e-3 of (0, 0). The non-saturating game comes inwards from (1, 1),
but ever more slowly: the farther in, the less there is to bring it in, and its rate at (0, 0) is not below 1.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import RESULTS, table, write  # noqa: E402

from tinygan import grad, losses, nn, optim, plot  # noqa: E402
from tinygan.train import GAN  # noqa: E402

ETA, STEPS, NEAR = 0.05, 2000, 1e-3
GAMMA, NOISE = 0.5, 1.0
ORDERS = ("simultaneous", "alternating")


class Point(nn.Module):
    """G(z) = θ, whatever z is: (N, 1) → (N, 1)."""

    def __init__(self, theta):
        self.theta = nn.Parameter(np.array([[theta]]))

    def forward(self, z):
        return z * 0.0 + self.theta


class Line(nn.Module):
    """D(x) = ψ x: (N, 1) → (N, 1)."""

    def __init__(self, psi):
        self.psi = nn.Parameter(np.array([[psi]]))

    def forward(self, x):
        return x @ self.psi


def shaken(std):
    """A view: one half of the batch moved up by std, the other down."""
    return lambda x, step: x + std * np.array([[1.0], [-1.0]])


def consensus(gamma):
    """A term for both players: γ/2 (‖∂L_D/∂ψ‖² + ‖∂L_G/∂θ‖²), to be differentiated by either's weights."""
    def term(gan, r):
        d_real, d_fake = gan.d(r.real), gan.d(gan.g(r.z))           # in D's move r.fake knows nothing of θ
        slopes = (*grad(gan.loss.discriminator(d_real, d_fake), gan.d.parameters(), create_graph=True),
                  *grad(gan.loss.generator(d_fake), gan.g.parameters(), create_graph=True))
        return gamma / 2 * sum((s ** 2).sum() for s in slopes)
    return term


# What a method is to `GAN`; the prediction's a, c and g, or None; whether the paper says that it converges.
METHODS = {
    "minimax": (dict(loss="minimax"), (0.5, 0, 0), False),
    "non-saturating": (dict(), (0.5, 0, 0), False),
    "WGAN": (dict(loss="wasserstein"), (1.0, 0, 0), False),
    "WGAN-GP": (dict(loss="wasserstein", penalty=losses.wgan_gp(0.5)), None, False),
    f"R1, γ = {GAMMA:g}": (dict(penalty=losses.r1(GAMMA)), (0.5, GAMMA, 0), True),
    f"R2, γ = {GAMMA:g}": (dict(penalty=losses.r2(GAMMA)), (0.5, GAMMA, 0), True),
    "R1, critical γ = 1": (dict(penalty=losses.r1(1.0)), (0.5, 1.0, 0), True),
    f"instance noise, σ = {NOISE:g}": (dict(view=shaken(NOISE)), (0.5, NOISE ** 2 / 2, 0), True),
    "consensus, γ = 1": (dict(terms_d=consensus(1.0), terms_g=consensus(1.0)), (0.5, 0.25, 0.25), True),
}


def trajectory(options, order, start, steps=STEPS):
    """(ψ, θ) before the first step and after each: float64 (steps + 1, 2)."""
    psi, theta = start
    gan = GAN(Point(theta), Line(psi), lambda n: np.zeros((n, 1)), optimizer=partial(optim.SGD, lr=ETA),
              simultaneous=order == "simultaneous", **options)
    states, real = [start], np.zeros((2, 1))
    for _ in range(steps):
        gan.step(real)
        states.append((gan.d.psi.item(), gan.g.theta.item()))
    return np.array(states)


def matrix(coefficients, order):
    """What a step multiplies (ψ, θ) by, near (0, 0)."""
    a, c, g = coefficients
    if order == "simultaneous":
        return np.array([[1 - ETA * c, -ETA * a], [ETA * a, 1 - ETA * g]])
    return np.array([[1 - ETA * c, -ETA * a], [ETA * a * (1 - ETA * c), 1 - ETA * g - (ETA * a) ** 2]])


def predicted(coefficients, order):
    """The spectral radius of a step. Of a 2×2 matrix, by hand: at a double root, eigenvalues are exact to √ε only."""
    m = matrix(coefficients, order)
    return radius(np.trace(m), m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])


def radius(t, d):
    """The larger |λ| with λ² = t λ − d."""
    square = t * t / 4 - d
    return float(np.sqrt(d) if square < 0 else abs(t) / 2 + np.sqrt(square))


def eigenvalues(coefficients):
    """Of the continuous flow, as text."""
    a, c, g = coefficients
    centre, square = -(c + g) / 2, (c - g) ** 2 / 4 - a ** 2
    root = f"{abs(square) ** 0.5:.3g}" + ("i" if square < 0 else "")
    return f"{centre:.3g} (twice)" if square == 0 else f"{centre:.3g} ± {root}" if centre else f"±{root}"


def measured(states):
    """The rate of a trajectory: the recurrence that its states obey."""
    s = states / np.abs(states).max()
    left = np.stack([s[1:-1].ravel(), -s[:-2].ravel()], axis=1)             # (2 (n − 1), 2)
    (t, d), *_ = np.linalg.lstsq(left, s[2:].ravel(), rcond=None)
    return radius(t, d)


def rows():
    """({(method, order): states from (1, 1)}, the rows of the table)."""
    paths, lines = {}, []
    for method, (options, coefficients, converges) in METHODS.items():
        for order in ORDERS:
            paths[method, order] = path = trajectory(options, order, (1.0, 1.0))
            row = {"method": method.replace(",", ""), "moves": order, "eigenvalues": "none", "predicted": "",
                   "measured": "", "error": "", "end": float(np.hypot(*path[-1]))}
            if coefficients:
                near = measured(trajectory(options, order, (1e-6, 1e-6)))
                row |= {"eigenvalues": eigenvalues(coefficients), "predicted": predicted(coefficients, order),
                        "measured": near, "error": abs(near / predicted(coefficients, order) - 1)}
            row |= {"converges": "yes" if row["end"] < NEAR else "no", "published": "yes" if converges else "no"}
            lines.append(row)
    return paths, lines


def compare(lines):
    """Prediction and measurement side by side."""
    cells = [[row["method"], row["moves"], row["eigenvalues"],
              *(f"{row[k]:.6f}" if row[k] != "" else "–" for k in ("predicted", "measured")),
              f"{row['error']:.0e}" if row["error"] != "" else "–", f"{row['end']:.1e}", row["converges"],
              row["published"]] for row in lines]
    return table(["method", "moves", "eigenvalues", "rate predicted", "measured", "relative error",
                  "distance at the end, from √2", "converges", "published"], cells)


def draw(paths, path):
    """The trajectories, simultaneous and alternating."""
    figure = plot.Figure(figsize=(2 * len(METHODS), 4.6), layout="constrained")
    for axes, (method, order) in zip(figure.subplots(2, len(METHODS)).T.flat, paths, strict=True):
        states = paths[method, order]
        axes.plot(*states.T, color=plot.BLUE, lw=0.6)
        axes.plot(*states[0], "o", color=plot.GREY, ms=4)
        axes.plot(*states[-1], "o", color=plot.ORANGE, ms=5)
        axes.axhline(0, color=plot.GREY, lw=0.4)
        axes.axvline(0, color=plot.GREY, lw=0.4)
        axes.set(xticks=[], yticks=[], aspect="equal")
        reach = 1.1 * np.abs(states).max()
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set_title(method if order == ORDERS[0] else "", fontsize=8)
        if method == next(iter(METHODS)):
            axes.set_ylabel(f"{order}: θ against ψ", fontsize=8)
    figure.savefig(path, dpi=90)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of dirac.csv and dirac.png")
    args = parser.parse_args()
    paths, lines = rows()
    write(args.out / "dirac.csv", lines)
    draw(paths, args.out / "dirac.png")
    print(compare(lines))


if __name__ == "__main__":
    main()
