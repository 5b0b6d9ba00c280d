"""Naive twin of GaussianMixture: one MultivariateNormal per sample and component, float64, then autograd."""

import math

import torch
from torch.distributions import MultivariateNormal


def log_prob(weights, means, covariances, x, t):
    """log sum_k w_k N(x_i; a m_k, a^2 S_k + (1 - a^2) I) at the time of each row; covariances are full [K, d, d]."""
    times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
    eye = torch.eye(x.shape[1], dtype=torch.float64)
    rows = []
    for point, time in zip(x, times.tolist(), strict=True):
        a = math.exp(-time / 2)
        terms = [
            math.log(w) + MultivariateNormal(a * m, a * a * s + (1 - a * a) * eye).log_prob(point)
            for w, m, s in zip(weights.tolist(), means, covariances, strict=True)
        ]
        rows.append(torch.logsumexp(torch.stack(terms), dim=0))
    return torch.stack(rows)


def score_and_divergence(log_density, x):
    """Gradient and Laplacian of a log density, row by row, by automatic differentiation."""
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(x).sum(), x, create_graph=True)
    laplacian = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        (second,) = torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)
        laplacian += second[:, i]
    return gradient.detach(), laplacian
