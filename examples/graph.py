"""What a Tensor remembers: the computation graph of the smallest GAN, with every value and every gradient.

A generator of two numbers and a discriminator of two, on one latent z:

    x = w z + b        d = u x + v x²        L = softplus(−d) = −log σ(d), the generator's loss

Each op leaves a Tensor that knows the op and its arguments. Following `tensor.args` from L back to the numbers that
nothing made is all this script does; the same walk, newest first, is how `grad` works. At every arrow the incoming
gradient ȳ is multiplied by the arrow's own derivative, x̄ = ȳ ∂y/∂x. x has two uses, u x and x², and its gradient
is the sum of both shares:

    x̄ = d̄ u + d̄ v · 2x        with d̄ = −σ(−d)

What the usual version gets wrong: it keeps the last share only (`=` where `+=` belongs), or starts a node's own
backward step before all its uses have reported. Both give the right answer on every chain and a wrong one on every
diamond such as this.

Expect an SVG, read from left to right: in every box the op, its value in blue and its gradient in orange; what no
op made is on pale blue. With --steps N the generator first takes N steps w ← w − η w̄, b ← b − η b̄, and L falls.
Takes 1 second. Prints the largest difference between `grad` and the formulas above, worked out by hand (perfect:
0).
"""

import argparse
import html
import math

import numpy as np

import tinygan
from tinygan import Tensor, grad, ops, plot

cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name, default in dict(device="cpu", steps=0, seed=0, out="graph.svg").items():
    cli.add_argument(f"--{name}", type=type(default), default=default, help=f"default: {default}")
args = cli.parse_args()
tinygan.seed(args.seed)

SIGNS = {"add": "+", "sub": "−", "mul": "×", "neg": "−", "pow": "power"}     # how a node shows its op; others by name
WIDE, HIGH, COLUMN, ROW = 104, 62, 140, 92                              # of a node, and from one node to the next


def ancestors(y):
    """All Tensors that y was computed from and y itself, oldest first: creation order is a topological order."""
    found, todo = {}, [y]
    while todo:
        t = todo.pop()
        if t.number not in found:
            found[t.number] = t
            todo += [a for a in (t.args if t.op else ()) if isinstance(a, Tensor)]
    return [found[n] for n in sorted(found)]


def layout(nodes):
    """{number: (x, y)}: one column per depth, the longest way from a leaf; a leaf stands just before its first use."""
    depth, inputs = {}, {t.number: [a for a in t.args if isinstance(a, Tensor)] if t.op else [] for t in nodes}
    for t in nodes:
        depth[t.number] = 1 + max((depth[a.number] for a in inputs[t.number]), default=-1)
    for t in nodes:
        if not inputs[t.number]:
            depth[t.number] = min(depth[u.number] for u in nodes if any(a is t for a in inputs[u.number])) - 1
    place = {}
    for column in range(max(depth.values()), -1, -1):                   # from L to the left: stand level with your uses
        here = [t for t in nodes if depth[t.number] == column]
        uses = {t.number: [place[u.number][1] + ROW / 2 * (2 * i - len(inputs[u.number]) + 1) for u in nodes
                           for i, a in enumerate(inputs[u.number]) if a is t] for t in here}
        wish = {n: sum(ys) / len(ys) if ys else 0.0 for n, ys in uses.items()}
        y = -math.inf
        for t in sorted(here, key=lambda t: wish[t.number]):
            y = max(wish[t.number], y + ROW)                            # never closer than one row
            place[t.number] = (column * COLUMN, y)
    return place


def svg(y):
    """The graph of y as the text of an SVG file."""
    nodes = ancestors(y)
    at, bars = layout(nodes), dict(zip((t.number for t in nodes), grad(y, nodes), strict=True))
    top, left = min(p[1] for p in at.values()) - HIGH / 2 - 20, -WIDE / 2 - 20
    lines, boxes = [], []
    for t in nodes:
        px, py = at[t.number]
        plain = [a for a in t.args if not isinstance(a, Tensor)] if t.op else []      # constants such as the 2 of x²
        title = " ".join([SIGNS.get(t.op.name, t.op.name), *map(str, plain)]) if t.op else ""
        title = ": ".join(part for part in (t.name, title) if part)
        fill, edge = ("#FFFFFF", plot.INK) if t.op else ("#EAF3F9", plot.BLUE)
        boxes.append(f'<rect x="{px - WIDE / 2}" y="{py - HIGH / 2}" width="{WIDE}" height="{HIGH}" rx="9" '
                     f'fill="{fill}" stroke="{edge}"/>')
        for dy, color, text in ((-13, plot.INK, title), (6, plot.BLUE, f"{t.item():.4g}"),
                                (23, plot.ORANGE, f"{bars[t.number].item():+.4g}")):
            boxes.append(f'<text x="{px}" y="{py + dy}" fill="{color}">{html.escape(text).replace("-", "−")}</text>')
        for a in (a for a in (t.args if t.op else ()) if isinstance(a, Tensor)):
            (ax, ay), reach = at[a.number], px - WIDE / 2 - 5
            lines.append(f'<path d="M{ax + WIDE / 2} {ay} C{ax + WIDE / 2 + 30} {ay} {reach - 30} {py} {reach} {py}"/>')
    wide = max(p[0] for p in at.values()) + WIDE / 2 + 20 - left
    high = max(p[1] for p in at.values()) + HIGH / 2 + 20 - top
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {wide} {high}" '
            f'width="{wide}" height="{high}">\n'
            '<marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{plot.GREY}"/></marker>\n'
            f'<rect x="{left}" y="{top}" width="100%" height="100%" fill="white"/>\n'
            f'<g fill="none" stroke="{plot.GREY}" stroke-width="1.4" marker-end="url(#tip)">\n' + "\n".join(lines) +
            '</g>\n<g font-family="sans-serif" font-size="15" text-anchor="middle">\n' + "\n".join(boxes) +
            f'<text x="{left + wide - 20}" y="{top + high - 20}" text-anchor="end" fill="{plot.GREY}">'
            f'op, <tspan fill="{plot.BLUE}">value</tspan>, '
            f'<tspan fill="{plot.ORANGE}">gradient ∂L/∂value</tspan></text>'
            "</g></svg>\n")


device = tinygan.pick_device(args.device)
values = tinygan.to_device(tinygan.rng("init").normal(size=5).astype(np.float32).round(1), device)
w, b, u, v, z = (Tensor(values[i:i + 1], name) for i, name in enumerate("wbuvz"))


def loss():
    """(L, d, x) of the smallest GAN."""
    x = w * z + b
    d = u * x + v * x ** 2
    return ops.softplus(-d), d, x


for _ in range(args.steps):
    for parameter, gradient in zip([w, b], grad(loss()[0], [w, b]), strict=True):
        parameter.data = parameter.data - 0.1 * gradient
L, d, x = loss()
L.name, d.name, x.name = "Ldx"                                          # for the drawing
with open(args.out, "w", encoding="utf-8") as file:
    file.write(svg(L))

d_bar = -1 / (1 + math.exp(d.item()))                                   # −σ(−d)
x_bar = d_bar * (u.item() + v.item() * 2 * x.item())                    # two uses, two shares
by_hand = {x: x_bar, w: x_bar * z.item(), b: x_bar, u: d_bar * x.item(), v: d_bar * x.item() ** 2}
worst = max(abs(grad(L, t).item() - value) for t, value in by_hand.items())
print(f"{args.out}: L = {L.item():.4f}, grad is off the formulas by {worst:.1e} at most (perfect: 0, but for rounding)")
