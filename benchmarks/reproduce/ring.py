"""A ring of eight Gaussians, vanilla, relativistic and packed, as published with five seeds. About 40 s of one core per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/reproduce/ring.py --seeds 20

Published: the table of the repository `paired-discriminator` (training_runs.md, "ring8"), five seeds, mean ± standard
deviation. Protocol, followed here in full:

    data        8 Gaussians on a circle of radius 2, σ = 0.1; every batch is drawn anew
    G, D        16 → 128 → 128 → 2 and 2 → 128 → 128 → 1 (packed by two: 4 → 128 → 128 → 1), LeakyReLU 0.2,
                PyTorch's initialisation, uniform in ±1/√fan_in
    training    Adam 2e-4, betas (0.5, 0.999), batch 256, one move of D and one of G per step, 10,000 steps;
                G's move gets latents *and* real samples of its own
    loss        non-saturating; relativistic: −E log σ(D(x) − D(G(z))), and with the roles changed for G
    evaluation  10,000 samples of the last G. Modes: at least 1 % of all samples within 3σ. HQ: the share within 3σ
                of any mode. TV = ½ (Σ |pₖ − 1/8| + share on no mode)

A perfect sampler has 8 modes, 98.889 % HQ and TV 0. The width is the standard deviation within the modes by the
true one, so a perfect sampler has 1, and a generator that draws a point per mode has 0.

What decides how a run ends? Beside each result stand statistics of the untrained networks, and their correlation
with the final TV over the seeds. A second experiment crosses initial weights with batches: vanilla runs from the
weights of some seeds, each with other sequences of batches and latents too. If the weights decided, the TV would
vary between weights only (share of variance 1), and if chance did, as much within one row (share near 0).

Is it tinygan, or the protocol? --control plays vanilla in PyTorch too, from the same weights, with the same batches
and latents.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import correlation, difference, find, mean_sd, parser, pm, read, run, table  # noqa: E402

import tinygan  # noqa: E402
from tinygan import Tensor, data, grad, models, nn, plot, to_host, views  # noqa: E402
from tinygan.metrics import ceiling, mode_coverage  # noqa: E402
from tinygan.train import GAN  # noqa: E402

METHODS = {"vanilla": dict(), "relativistic": dict(loss="relativistic"), "packed": dict(pack=2)}
PUBLISHED = {"vanilla": dict(modes=(7.60, 0.89), hq=(0.849, None), tv=(0.226, 0.072)),      # five seeds
             "relativistic": dict(modes=(7.40, 1.34), hq=(0.836, None), tv=(0.281, 0.170))}
LATENT, BATCH, SAMPLES = 16, 256, 10_000
GOOD = 0.45                                     # the final TVs fall into two groups, and this lies between them
LOOKS = (0.1, 0.2, 0.5)                         # of the training: when the TV is looked at on the way
STATISTICS = {"sectors": "of the 8 sectors around the modes, how many hold 1 % of G's samples",
              "spread": "root mean square distance of G's samples from their mean",
              "offset": "distance of their mean from the centre",
              "roundness": "smaller by larger standard deviation of the samples' cloud",
              "slope": "length of D's mean gradient at G's samples",
              "steepness": "mean length of D's gradient there"}          # lean: offset by spread


def make(method, weights, seed):
    """The GAN of a method: its initial weights from one seed, all that is drawn later from another."""
    options = dict(METHODS[method])
    pack = options.pop("pack", 1)
    tinygan.seed(weights)
    g = models.mlp_generator(LATENT, (2,), (128, 128))
    d = models.mlp_discriminator((2 * pack,), (128, 128))
    tinygan.seed(seed)
    return GAN(g, d, LATENT, lr=2e-4, betas=(0.5, 0.999), view=views.Pack(pack) if pack > 1 else None, **options)


def play(gan, mixture, steps, batch=BATCH):
    """So many steps, each player on a batch of its own."""
    rng = gan.random.rng("batch")
    for _ in range(steps):
        gan.step(mixture.sample(batch, rng), then=(mixture.sample(batch, rng),))


def evaluate(gan, mixture):
    """The published figures of 10,000 samples."""
    z = gan.latents(SAMPLES, "evaluate")
    return mode_coverage(gan.sample(z), mixture)


def untrained(gan, mixture):
    """Statistics of the networks before the first step, see STATISTICS."""
    x = gan.sample(gan.latents(2000, "untrained"))                          # (N, 2)
    centre, sd = x.mean(axis=0), np.sqrt(np.linalg.eigvalsh(np.cov(x.T)))
    nearest = (x @ mixture.centers.T).argmax(axis=1)                        # the sector of each sample
    points = Tensor(x)
    seen = gan.see(points)
    slopes = to_host(grad(gan.d(seen).sum(), points))                       # (N, 2)
    return {"sectors": int((np.bincount(nearest, minlength=len(mixture.centers)) >= 0.01 * len(x)).sum()),
            "spread": float(np.sqrt((sd ** 2).sum())), "offset": float(np.hypot(*centre)),
            "roundness": float(sd[0] / sd[1]), "slope": float(np.hypot(*slopes.mean(axis=0))),
            "steepness": float(np.hypot(*slopes.T).mean())}


def one(method, seed, steps, weights=None):
    """One run, as a row."""
    mixture, gan = data.ring(8, 2.0, 0.1), make(method, seed if weights is None else weights, seed)
    found, done = {f"first_{k}": v for k, v in untrained(gan, mixture).items()}, 0
    for share in LOOKS:
        at = round(share * steps)
        play(gan, mixture, at - done)
        done, found[f"tv_at_{share}"] = at, evaluate(gan, mixture).tv
    play(gan, mixture, steps - done)
    c = evaluate(gan, mixture)
    return {"modes": c.modes, "hq": c.high_quality, "tv": c.tv, "width": c.std_ratio, **found}


def in_torch(seed, steps):
    """Vanilla's run of this seed played by PyTorch: 10,000 samples at the end, from the latents that `evaluate` uses."""
    import torch
    from torch.nn.functional import softplus
    torch.set_num_threads(1)
    mixture, gan = data.ring(8, 2.0, 0.1), make("vanilla", seed, seed)

    def twin(net):
        """The same layers with the same weights; tinygan keeps them as (in, out)."""
        layers = []
        for _, layer in net.children():
            if isinstance(layer, nn.Linear):
                layers.append(torch.nn.Linear(*layer.weight.shape))
                for theirs, ours in ((layers[-1].weight, layer.weight.data.T), (layers[-1].bias, layer.bias.data)):
                    theirs.data.copy_(torch.from_numpy(ours.copy()))
            else:
                layers.append(torch.nn.LeakyReLU(0.2))
        return torch.nn.Sequential(*layers)

    g, d = twin(gan.g), twin(gan.d)
    opt_g, opt_d = (torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999)) for net in (g, d))
    rng = gan.random.rng("batch")
    for _ in range(steps):
        real, z = torch.from_numpy(mixture.sample(BATCH, rng)), torch.from_numpy(gan.latents(BATCH))
        loss_d = softplus(-d(real)).mean() + softplus(d(g(z).detach())).mean()
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        mixture.sample(BATCH, rng)                  # G's batch of real samples, which vanilla does not look at
        loss_g = softplus(-d(g(torch.from_numpy(gan.latents(BATCH))))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
    with torch.no_grad():
        return g(torch.from_numpy(gan.latents(SAMPLES, "evaluate"))).numpy()


def control(rows, ours):
    """The final TVs of the same runs in PyTorch and here."""
    lines = [[row["seed"], f"{row['tv']:.3f}", f"{find(ours, method='vanilla', seed=row['seed'])['tv']:.3f}"] for row in rows]
    return table(["seed", "final TV, vanilla in PyTorch", "in tinygan"], lines)


def methods(rows):
    """{method: its rows}, in the order of METHODS."""
    found = {m: [row for row in rows if row["method"] == m] for m in METHODS}
    return {m: mine for m, mine in found.items() if mine}


def compare(rows):
    """Own and published figures side by side."""
    head = ["method", "runs", "modes", "published", "HQ %", "published", "TV", "published", "width",
            "difference of modes, HQ, TV in standard errors", f"good runs (TV < {GOOD})", "their TV", "TV of the others"]
    lines = []
    for method, mine in methods(rows).items():
        known, cells, apart = PUBLISHED.get(method), [], []
        for key, digits, factor in (("modes", 2, 1), ("hq", 1, 100), ("tv", 3, 1)):
            values = [factor * row[key] for row in mine]
            cells.append(pm(values, digits))
            if known:
                m, s = (v and factor * v for v in known[key])
                cells.append(f"{m:.{digits}f}" + (f" ± {s:.{digits}f}" if s else ""))
                apart.append(f"{difference((*mean_sd(values), len(mine)), (m, s, 5)):+.1f}")
            else:
                cells.append("–")
        sides = [[row["tv"] for row in mine if (row["tv"] < GOOD) == good] for good in (True, False)]
        lines.append([method, len(mine), *cells, pm((row["width"] for row in mine), 2), ", ".join(apart) or "–", len(sides[0]),
                      *(f"{np.mean(tvs):.3f} ({min(tvs):.2f} to {max(tvs):.2f})" if tvs else "–" for tvs in sides)])
    lines.append(["perfect sampler", "", 8, "", f"{100 * ceiling():.1f}", "", 0, "", 1, "", "", "", ""])
    return table(head, lines)


def decides(rows):
    """The correlation of each statistic of the untrained networks, and of the TV on the way, with the final TV."""
    rows = [{**row, "first_lean": row["first_offset"] / row["first_spread"]} for row in rows]
    names = {f"first_{k}": f"untrained: {k}" for k in (*STATISTICS, "lean")}
    names |= {f"tv_at_{share}": f"TV after {share:.0%} of the training" for share in LOOKS}
    lines = [[name, *(f"{correlation([row[key] for row in mine], [row['tv'] for row in mine]):+.2f}"
                      for mine in methods(rows).values())] for key, name in names.items()]
    return table(["correlation with the final TV",
                  *(f"{method}, {len(mine)} runs" for method, mine in methods(rows).items())], lines)


def variance(tvs):
    """The share of the variance that the rows explain, tvs (weights, batches): the intraclass correlation.

    (B − W) / (B + (m − 1) W) with B and W the mean squares between and within the rows of m runs: 1 if the weights
    decide, about 0 if they do not matter (Fisher's one-way analysis of variance).
    """
    m = tvs.shape[1]
    between = m * tvs.mean(axis=1).var(ddof=1)
    within = tvs.var(axis=1, ddof=1).mean()
    return float((between - within) / (between + (m - 1) * within))


def crossed(rows, ours):
    """The final TV by initial weights and batches, the runs of the table among them, and what the weights explain."""
    weights, batches = (sorted({row[key] for row in rows}) for key in ("weights", "seed"))
    tvs = np.array([[find(ours, method="vanilla", seed=w)["tv"], *(find(rows, weights=w, seed=b)["tv"] for b in batches)]
                    for w in weights])
    lines = [[f"weights of seed {w}", *(f"{tv:.3f}" for tv in line)] for w, line in zip(weights, tvs, strict=True)]
    return (table(["final TV, vanilla", "batches of the same seed", *(f"batches of seed {b}" for b in batches)], lines)
            + f"\n\nShare of the variance that the weights explain: {variance(tvs):.2f}")


def draw(rows, path):
    """Every run's final TV per method, and published means ± deviation; a run's TV on the way."""
    figure = plot.Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (method, mine) in enumerate(methods(rows).items()):
        shift = np.linspace(-0.15, 0.15, len(mine))
        left.plot(i + shift, [row["tv"] for row in mine], "o", color=plot.ORANGE, ms=4, label="one run here" if i == 0 else None)
        if method in PUBLISHED:
            m, s = PUBLISHED[method]["tv"]
            left.errorbar(i + 0.3, m, s, color=plot.BLUE, fmt="s", capsize=4, label="published, 5 seeds" if i == 0 else None)
    left.set_xticks(range(len(methods(rows))), methods(rows))
    left.set_ylabel("final total variation (perfect: 0)")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    for row in (row for row in rows if row["method"] == "vanilla"):
        right.plot([*LOOKS, 1], [*(row[f"tv_at_{share}"] for share in LOOKS), row["tv"]], color=plot.ORANGE, alpha=0.5)
    right.set_xlabel("share of the training")
    right.set_ylabel("total variation, vanilla")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def main():
    """Command line."""
    options = parser(__doc__, "ring", METHODS, seeds=20)
    options.add_argument("--steps", type=int, default=10_000, help="as published: 10000 (default)")
    options.add_argument("--crossed", type=int, nargs=2, default=(0, 0), metavar=("WEIGHTS", "BATCHES"),
                         help="also cross so many initial weights with so many sequences of batches, vanilla")
    options.add_argument("--control", type=int, default=0, metavar="SEEDS", help="also so many runs of vanilla in PyTorch")
    args = options.parse_args()
    if args.job:
        row = one(**args.job) if "method" in args.job else {"tv": mode_coverage(in_torch(**args.job), data.ring()).tv}
        return print(json.dumps(row))

    jobs = [dict(method=m, seed=s, steps=args.steps) for s in range(args.seeds) for m in args.methods]
    run(__file__, jobs, args.out / "ring.csv", args.again)
    rows = [row for row in read(args.out / "ring.csv") if row["steps"] == args.steps]     # of earlier commands too
    print(compare(rows) + "\n")
    print(decides(rows) + "\n")
    draw(rows, args.out / "ring.png")
    n, m = args.crossed
    jobs = [dict(method="vanilla", weights=w, seed=1000 + b, steps=args.steps) for b in range(m) for w in range(n)]
    if jobs:
        print(crossed(run(__file__, jobs, args.out / "ring_crossed.csv", args.again), rows) + "\n")
    if args.control:
        jobs = [dict(seed=s, steps=args.steps) for s in range(args.control)]
        print(control(run(__file__, jobs, args.out / "ring_control.csv", args.again), rows))


if __name__ == "__main__":
    main()
