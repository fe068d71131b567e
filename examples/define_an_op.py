"""Define an op of your own, check it, and see what the checker says when a rule is wrong.

    python examples/define_an_op.py

Swish, y = x σ(βx) (Ramachandran et al. 2017), with a slope β that is learned. Write the formula, derive one line per argument
with s = σ(βx), and let the checker compare both lines with finite differences, to second order.
"""

import numpy as np

from tinygan import op, ops
from tinygan.autograd import data_of
from tinygan.gradcheck import GradientError, check


@op
def swish(x, beta):
    """y = x s with s = σ(βx)      x̄ = ȳ (s + βy (1 − s))      β̄ = ȳ x y (1 − s)"""
    return x * ops.sigmoid(beta * x)
swish.vjps(lambda g, y, x, beta: g * (ops.sigmoid(beta * x) + beta * y * (1 - ops.sigmoid(beta * x))),
           lambda g, y, x, beta: g * x * y * (1 - ops.sigmoid(beta * x)))

x, beta = np.linspace(-2, 2, 12).reshape(4, 3), np.array([0.5, 1.0, 2.0])       # β broadcasts: the engine sums its gradient
print("right:", check(swish, x, beta), sep="\n")

for mistake, rule in {
    "s instead of 1 − s": lambda g, y, x, beta: g * x * y * ops.sigmoid(beta * x),
    "twice as much": lambda g, y, x, beta: 2 * g * x * y * (1 - ops.sigmoid(beta * x)),
    "a plain array on the way, which records nothing": lambda g, y, x, beta: g * x * y * (1 - data_of(ops.sigmoid(beta * x))),
}.items():
    swish.vjps(swish.rules[0], rule)
    try:
        check(swish, x, beta)
    except GradientError as e:
        print(f"\n{mistake}:", e, sep="\n")
