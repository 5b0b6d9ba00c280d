"""Naive twin of KernelMixture: the whole N x M matrix of distances in float64 and the textbook formulas."""

import math

import torch


def evaluate(centres, bandwidth, x, t, weights=None):
    """Log density [n], score [n, d], divergence of the score [n] and responsibilities [n, N]."""
    c, x = centres.double(), x.double()
    n, d = len(c), c.shape[1]
    w = torch.full((n,), 1 / n, dtype=torch.float64) if weights is None else weights.double()
    times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
    log_density, score, divergence, responsibilities = [], [], [], []
    for point, time in zip(x, times.tolist(), strict=True):
        a = math.exp(-time / 2)
        v = a * a * bandwidth**2 + 1 - a * a
        difference = a * c - point
        squares = difference.square().sum(1)
        logits = w.log() - squares / (2 * v)
        r = logits.softmax(0)
        s = (r.unsqueeze(1) * difference).sum(0) / v
        log_density.append(logits.logsumexp(0) - d / 2 * math.log(2 * math.pi * v))
        score.append(s)
        divergence.append((r * squares).sum() / v**2 - d / v - s.square().sum())
        responsibilities.append(r)
    return tuple(torch.stack(part) for part in (log_density, score, divergence, responsibilities))
