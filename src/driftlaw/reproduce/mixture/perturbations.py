r"""The experiment of [KTV] Figure 2: which controlled score errors are seen at the end of the path.

On a law whose score is exact, :math:`\hat s = s + e` with five kinds of error. Observability does not depend on the
size of e, so none is needed. With :math:`A_t e = \nabla\cdot e + e \cdot s_t` (theory 3.2):

- aligned, :math:`e = s_t`: a gradient field, pushes probability along the score;
- random, :math:`e = \sum_j c_j \cos(\omega_j \cdot x + b_j)`: a smooth field with no structure;
- constant in time and space, :math:`e = w`: the plainest time-only error;
- white in time, :math:`e = w_{\lfloor t/\delta \rfloor}` with independent Gaussian vectors: time-only as well, but its
  effects cancel along the path, :math:`\eta = O(\delta)`;
- rotation along level sets, :math:`e = A s_t` with A antisymmetric: :math:`A_t e = 0`, so eta = 0 exactly;
- rotation of the plane of the means, :math:`e = A x`: tangent to spheres, not to the level sets of a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from driftlaw.data.builtin import digits
from driftlaw.estimate import Estimate
from driftlaw.learn.denoiser.learner import Denoiser
from driftlaw.learn.estimator import FitContext
from driftlaw.measure.paths.observability import observability
from driftlaw.measure.paths.regression import observability_regression
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.laws.law import ExactLaw
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.process.score import Perturbed, Time
from driftlaw.reproduce.records import row
from driftlaw.seeding import generator, stream_seed

T0, T = 0.02, 4.0


@dataclass(frozen=True)
class Constant:
    """The field e = w."""

    w: Tensor

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The same vector at every point."""
        return self.w.to(x).expand_as(x)

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Zero at every point."""
        return x.new_zeros(len(x))


@dataclass(frozen=True)
class WhiteInTime:
    """The field e = w_k on the k-th interval of length delta after t0: ``w`` is ``[intervals, d]``."""

    w: Tensor
    delta: float

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Rows that depend on the time alone."""
        k = ((torch.as_tensor(t, dtype=torch.float64) - T0) / self.delta).long().clamp(0, len(self.w) - 1)
        return self.w.to(x)[k].expand_as(x)

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Zero at every point."""
        return x.new_zeros(len(x))


@dataclass(frozen=True)
class Smooth:
    """The field e = sum_j c_j cos(omega_j . x + b_j): ``omega``, ``c`` are ``[J, d]``, ``b`` is ``[J]``."""

    omega: Tensor
    c: Tensor
    b: Tensor

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The field at the points."""
        return torch.cos(x @ self.omega.to(x).mT + self.b.to(x)) @ self.c.to(x)

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """-sum_j (c_j . omega_j) sin(omega_j . x + b_j)."""
        return -torch.sin(x @ self.omega.to(x).mT + self.b.to(x)) @ (self.c * self.omega).sum(1).to(x)


@dataclass(frozen=True)
class Linear:
    """The field e = A x."""

    matrix: Tensor

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The linear field A x."""
        return x @ self.matrix.to(x).mT

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Trace of A at every point."""
        return self.matrix.trace().to(x).expand(len(x))


@dataclass(frozen=True)
class OfScore:
    """The field e = A s_t, with A the identity (aligned) or antisymmetric (then its divergence is 0)."""

    law: ExactLaw
    matrix: Tensor | None = None

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The rotated score A s_t(x)."""
        s = self.law.score(x, t)
        return s if self.matrix is None else s @ self.matrix.to(s).mT

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Divergence of the score, or tr(A grad s) = 0 for antisymmetric A."""
        return self.law.divergence(x, t) if self.matrix is None else x.new_zeros(len(x))


Fields = Constant | WhiteInTime | Smooth | Linear | OfScore


def rotation(d: int, i: int, j: int) -> Tensor:
    """The antisymmetric matrix that turns axis i into axis j, ``[d, d]``."""
    matrix = torch.zeros(d, d, dtype=torch.float64)
    matrix[i, j], matrix[j, i] = -1.0, 1.0
    return matrix


def all_pairs(d: int, g: torch.Generator) -> Tensor:
    """A random antisymmetric matrix of norm about 1."""
    m = torch.randn(d, d, generator=g, dtype=torch.float64)
    return (m - m.mT) / (2 * math.sqrt(d))


def fields(law: ExactLaw, d: int, seed: int) -> Iterator[tuple[str, str, Fields]]:
    """Kind, description and field of each perturbation."""
    g = generator(seed, "reproduce", "fields", d)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    yield "aligned", "e = s, along the score", OfScore(law)
    phase = 2 * math.pi * torch.rand(64, generator=g, dtype=torch.float64)
    yield "random", "random smooth field", Smooth(randn(64, d) / math.sqrt(d), randn(64, d), phase)
    yield "time-only, constant", "e = w for all x and t", Constant(randn(d))
    for delta in (1.0, 0.1, 0.01):
        w = randn(math.ceil((T - T0) / delta), d)
        yield f"time-only, white {delta:g}", f"new random vector every {delta:g}", WhiteInTime(w, delta)
    yield "rotation of level sets", "e = A s, A antisymmetric", OfScore(law, all_pairs(d, g))
    yield "rotation of a plane", "e = A x in the first two axes", Linear(rotation(d, 0, 1))


def on_mixture(seed: int = 0, n: int = 8192) -> pd.DataFrame:
    """Observability of each perturbation on the paper's mixture: Stein and the regression's lower bound."""
    law = GaussianMixture.paper()
    rows = []
    for kind, text, field in fields(law, law.dim, seed):
        s_hat, stream = Perturbed(law, field), stream_seed(seed, "reproduce", "fig2", kind)
        stein = observability(s_hat, law, law, T0, T, n=n, seed=stream)
        bound = observability_regression(s_hat, law, law, T0, T, n=max(200, n // 2), seed=stream, steps=100)
        rows.append(row(stein, law="mixture", kind=kind, text=text, estimator="stein"))
        rows.append(row(bound, law="mixture", kind=kind, text=text, estimator="regression"))
    return pd.DataFrame(rows)


def on_digits(seed: int = 0, n: int = 2048) -> pd.DataFrame:
    """The same on images: q is the empirical law of the digits, whose diffused score is exact.

    One more row is the error of a small denoiser trained on these digits, its divergence by random probes.
    """
    data = digits().draw(1000, generator(seed, "reproduce", "digits")).x.flatten(1)
    law = KernelMixture(data, 0.0)
    rows = []
    for kind, text, field in fields(law, data.shape[1], seed):
        eta = observability(Perturbed(law, field), law, law, T0, T, n=n, seed=stream_seed(seed, "digits", kind))
        rows.append(row(eta, law="digits", kind=kind, text=text, estimator="stein"))
    context = FitContext(seed=stream_seed(seed, "reproduce", "denoiser"))
    model = Denoiser(width=64, steps=400, lr=4e-3).fit(data, context)
    eta = observability(model, law, law, T0, T, n=n, seed=stream_seed(seed, "digits", "denoiser"), probes=1)
    rows.append(row(eta, law="digits", kind="small denoiser", text="its own error", estimator="stein"))
    return pd.DataFrame(rows)


def exact_eta_constant(L: float = T - T0) -> Estimate:
    r"""Observability of a constant error on N(0, I): :math:`4 (1 - e^{-L/2})^2/L` (theory section 7)."""
    return Estimate.exact(4 * (-math.expm1(-L / 2)) ** 2 / L, "closed form on N(0, I)")
