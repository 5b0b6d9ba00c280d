"""Closed forms between two Gaussians N(m1, S1) and N(m2, S2), in numpy float64; quadrature where there is none."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import integrate, stats


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian law: the smallest object with ``sample`` and ``log_prob``."""

    mean: torch.Tensor
    cov: torch.Tensor

    @classmethod
    def isotropic(cls, mean, variance, d=None):
        mean = torch.as_tensor(mean, dtype=torch.float64).reshape(-1)
        mean = mean.expand(d) if d is not None else mean
        return cls(mean, variance * torch.eye(len(mean), dtype=torch.float64))

    @property
    def component_covariances(self):
        return self.cov[None]

    def sample(self, n, generator=None):
        z = torch.randn(n, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + z @ torch.linalg.cholesky(self.cov).mT

    def log_prob(self, x):
        factor = torch.linalg.cholesky(self.cov)
        white = torch.linalg.solve_triangular(factor, (x - self.mean).mT, upper=False)
        return -0.5 * (white.square().sum(0) + len(self.mean) * math.log(2 * math.pi)) - factor.diagonal().log().sum()

    def score(self, x, t=0.0):
        a2 = torch.exp(-torch.as_tensor(t, dtype=torch.float64)).reshape(-1, 1)
        values, vectors = torch.linalg.eigh(self.cov)
        diffused = a2 * values + 1 - a2
        return -(((x - a2.sqrt() * self.mean) @ vectors) / diffused) @ vectors.mT

    def divergence(self, x, t=0.0):
        a2 = torch.exp(-torch.as_tensor(t, dtype=torch.float64)).reshape(-1, 1)
        values = torch.linalg.eigvalsh(self.cov)
        return -(1 / (a2 * values + 1 - a2)).sum(-1).expand(len(x))

    def diffuse(self, t):
        a2 = math.exp(-t)
        return Gaussian(math.sqrt(a2) * self.mean, a2 * self.cov + (1 - a2) * torch.eye(len(self.mean)).double())


def _parts(r, q):
    return (v.double().numpy() for v in (r.mean, r.cov, q.mean, q.cov))


def kl(r, q):
    m1, s1, m2, s2 = _parts(r, q)
    p = np.linalg.inv(s2)
    logdet = np.linalg.slogdet(s2)[1] - np.linalg.slogdet(s1)[1]
    return 0.5 * (np.trace(p @ s1) + (m2 - m1) @ p @ (m2 - m1) - len(m1) + logdet)


def hellinger2(r, q):
    m1, s1, m2, s2 = _parts(r, q)
    s = (s1 + s2) / 2
    log_bc = 0.25 * (np.linalg.slogdet(s1)[1] + np.linalg.slogdet(s2)[1]) - 0.5 * np.linalg.slogdet(s)[1]
    return -math.expm1(log_bc - 0.125 * (m1 - m2) @ np.linalg.solve(s, m1 - m2))


def log_one_plus_chi2(r, q):
    """1 + chi2 = |S2| |S1|^-1/2 |2 S2 - S1|^-1/2 exp(delta' (2 S2 - S1)^-1 delta) iff 2 S2 > S1, else infinite."""
    m1, s1, m2, s2 = _parts(r, q)
    gap = 2 * s2 - s1
    if np.linalg.eigvalsh(gap)[0] <= 0:
        return math.inf
    logs = [np.linalg.slogdet(s)[1] for s in (s1, s2, gap)]
    return float(logs[1] - 0.5 * logs[0] - 0.5 * logs[2] + (m1 - m2) @ np.linalg.solve(gap, m1 - m2))


def chi2(r, q):
    """Infinite too where it exceeds the largest float64: compare logarithms there."""
    log = log_one_plus_chi2(r, q)
    return math.expm1(log) if log < 709 else math.inf


def tv_equal_cov(r, q):
    """TV = 2 Phi(Delta/2) - 1 with Delta the Mahalanobis distance, for equal covariances in any dimension."""
    m1, s1, m2, _ = _parts(r, q)
    return 2 * stats.norm.cdf(math.sqrt((m1 - m2) @ np.linalg.solve(s1, m1 - m2)) / 2) - 1


def quadrature_1d(r, q, integrand):
    """Integral of ``integrand(r(x), q(x))`` over the line."""
    (m1, v1), (m2, v2) = ((float(g.mean), float(g.cov)) for g in (r, q))
    half = 14 * math.sqrt(max(v1, v2))
    x = np.linspace(min(m1, m2) - half, max(m1, m2) + half, 400_001)
    f = integrand(stats.norm.pdf(x, m1, math.sqrt(v1)), stats.norm.pdf(x, m2, math.sqrt(v2)))
    return float(integrate.simpson(f, x=x))


def tv_1d(r, q):
    return quadrature_1d(r, q, lambda a, b: np.abs(a - b) / 2)


def chi2_mixture_1d(r, q):
    return quadrature_1d(r, q, lambda a, b: (a - b) ** 2 / (2 * (a + b) + 1e-300))
