"""Frequencies of categories and words (theory section 13)."""

from __future__ import annotations

import math

import numpy as np

from driftlaw.reproduce.laws.simulation import Simulated


def fresh(g: np.random.Generator) -> Simulated:
    """Stationary chi2 of n multinomial draws a round."""
    K, n, alpha, reps = 8, 50, 0.2, 8000
    p = np.arange(1, K + 1) / (K * (K + 1) / 2)
    f = np.tile(p, (reps, 1))
    for _ in range(60):
        f = g.multinomial(n, alpha * p + (1 - alpha) * f) / n
    expected = (K - 1) / n / (1 - (1 - alpha) ** 2 * (1 - 1 / n))
    formula = "E D = ((K-1)/n)/(1 - (1-a)^2 (1-1/n))"
    source = "this project, theory section 7"
    return Simulated("Categories, fresh fraction", formula, source, expected, (f**2 / p).sum(1) - 1)


def forgotten(g: np.random.Generator) -> Simulated:
    r"""Share of words of count c that are forgotten after round 2c/log 2.

    With n much larger than c the count is a critical Galton-Watson process with Poisson offspring, extinct by round t
    with probability :math:`q_t^c`, :math:`q_{t+1} = e^{q_t - 1}`; :math:`q_t \approx 1 - 2/t`, so that the median is
    :math:`2c/\log 2`, linear in c.
    """
    n, c, reps = 10_000_000, 20, 40_000
    rounds = round(2 * c / math.log(2))
    q, count = 0.0, np.full(reps, c)
    for _ in range(rounds):
        q, count = math.exp(q - 1), g.binomial(n, count / n)
    formula, gone = "P(count 0 by t) = q_t^c, q_t = exp(q_(t-1) - 1)", (count == 0).astype(float)
    return Simulated("Time to forget a word, linear in its count", formula, "arXiv 2412.17646 (topic)", q**c, gone)


def curated(g: np.random.Generator) -> Simulated:
    """Share of one of two kinds when the best of K is chosen by the Bradley-Terry-Luce rule, K large."""
    K, reps, share, reward = 100_000, 40_000, 0.3, 1.0
    good = g.binomial(K, share, reps) * math.exp(reward)
    chosen = g.random(reps) * (good + K - good / math.exp(reward)) < good
    expected = share * math.exp(reward) / (share * math.exp(reward) + 1 - share)
    formula = "p_curated = p e^r / E_p e^r"
    return Simulated("Curation tilts exponentially", formula, "arXiv 2407.09499", expected, chosen.astype(float))
