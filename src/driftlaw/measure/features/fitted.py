r"""Feature maps phi in which samples are compared when no density is known (this project, theory section 5).

A :class:`FeatureMap` sends a row (vector or image) to phi(x) in R^k. It is fitted once on real *training* rows and then
frozen, so that it is independent of the held-out rows and of every generation it is later applied to. All kinds end
with whitening by the real covariance C_Q,

    phi(x) = (psi(x) - E_Q psi) W,    W W^T = C_Q^{-1} on the range of C_Q,

so that |E_P phi - E_Q phi|^2 is the Mahalanobis form (m_P - m_Q)^T C_Q^{-1} (m_P - m_Q), a lower bound of
chi2(P || Q). The kinds differ in psi: ``"identity"`` psi(x) = flattened x; ``"pca"`` the leading principal coordinates
of it; ``"random_fourier"`` psi_j(x) = sqrt(2) cos(w_j . z + b_j) on d whitened principal coordinates z,
w_j ~ N(0, I/d), b_j uniform (Rahimi and Recht 2007). A network (:mod:`driftlaw.measure.features.network`) in place of
a kind gives psi(x) = the leading principal coordinates of its output.

A covariance of n rows is inverted only on its numerical range, and with Ledoit-Wolf shrinkage where n - 1 <= k. For
Gaussian features E[C_hat^{-1}] = (n-1)/(n-k-2) C^{-1}: whitening with few rows inflates squared distances by that.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.measure.features.network import FeatureSpace
from driftlaw.measure.features.steps import Affine, Cosine, Step
from driftlaw.numerics.directions import oriented
from driftlaw.numerics.rows import check_finite
from driftlaw.seeding import generator

Kind = Literal["pca", "identity", "random_fourier"]
#: The warning that concerns only distances taken in the whitened features themselves.
INFLATES = "whitening inflates squared distances by"
#: Rows that :meth:`FeatureMap.in_parts` maps at once.
PART = 2048
KINDS: tuple[str, ...] = ("pca", "identity", "random_fourier")


def as_rows(x: Tensor | np.ndarray, name: str = "x", least: int = 2) -> Tensor:
    """Flatten ``[n, ...]`` to ``[n, d]`` float64 and refuse what cannot be measured.

    Args:
        x: vectors ``[n, d]``, scalars ``[n]`` or images ``[n, c, h, w]``.
        name: how an error calls this set.
        least: smallest admissible n.

    Raises:
        InputError: fewer than `least` rows, no features, or NaN or infinite rows (their count and the first index).
    """
    rows = torch.as_tensor(x).detach().cpu()
    if rows.ndim == 0:
        raise InputError(f"{name} is a single number", "pass one row per sample: [n, d] or [n, c, h, w]")
    n = rows.shape[0]
    if n < least:
        raise InputError(f"{name} has {n} row{'' if n == 1 else 's'}, at least {least} are needed", "pass more samples")
    rows = rows.reshape(n, -1).double()
    if rows.shape[1] == 0:
        raise InputError(f"{name} has no features: shape {tuple(x.shape)}")
    check_finite(rows, f"rows of {name}", "drop these rows or find what made them")
    return rows


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """A frozen map phi: rows -> R^k; those that :meth:`fit` makes are whitened with the real covariance.

    Args:
        name: its kind.
        shape: shape of one row, for example ``(1, 28, 28)``.
        steps: maps applied in order.
        fitted_on: number of real rows behind it.
        warnings: what a reader of any number computed from it must know.
        network: what makes features of rows before the steps; None takes the rows themselves.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> phi = FeatureMap.fit(torch.randn(200, 1, 4, 4, generator=g), "pca", dimension=3)
        >>> phi(torch.zeros(5, 1, 4, 4)).shape
        torch.Size([5, 3])
    """

    name: str
    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    fitted_on: int
    warnings: tuple[str, ...] = ()
    network: FeatureSpace | None = None

    @classmethod
    def fit(
        cls, real: Tensor, kind: Kind | str | FeatureSpace = "pca", *, dimension: int = 32, seed: int = 0
    ) -> FeatureMap:
        """Fit phi on real training rows.

        Args:
            real: ``[n, ...]`` rows that are not used again as a reference.
            kind: "pca", "identity", "random_fourier", or a network, whose principal coordinates are taken.
            dimension: largest k (ignored by "identity").
            seed: seed of the frequencies of "random_fourier"; the other kinds are deterministic.

        Raises:
            InputError: unknown kind, dimension < 1, bad rows, or no column that varies.
        """
        network = None if isinstance(kind, str) else kind
        if network is None and kind not in KINDS:
            raise InputError(f"unknown features {kind!r}", nearest(str(kind), KINDS))
        if dimension < 1:
            raise InputError(f"the feature dimension is {dimension}", "choose 1 or more")
        rows = as_rows(real if network is None else network(real), "the real training set")
        warnings: list[str] = []
        constant = int((rows == rows[0]).all(dim=0).sum())
        if constant:
            which = "columns" if network is None else f"features of {network.name}"
            warnings.append(
                f"{constant} of {rows.shape[1]} {which} are constant in the real rows: changes there are not seen"
            )
        if kind == "identity":
            steps: tuple[Step, ...] = (_whiten(rows, warnings),)
        elif kind == "pca" or network is not None:
            principal = _principal(rows, dimension, warnings)
            steps = _joined(principal, _whiten(principal(rows), warnings))
        else:
            base = _principal(rows, dimension, [])
            base_steps = _joined(base, _whiten(base(rows), []))
            z = base_steps[0](rows)
            g = generator(seed, "random_fourier")
            d = z.shape[1]
            # |z - z'|^2 is about 2d for whitened rows: frequencies of scale 1/sqrt(d) see the bulk of the law
            frequencies = torch.randn(d, dimension, generator=g, dtype=torch.float64) / math.sqrt(d)
            phases = 2.0 * math.pi * torch.rand(dimension, generator=g, dtype=torch.float64)
            waves = Cosine(frequencies, phases)
            steps = (*base_steps, waves, _whiten(waves(z), warnings))
        name = str(kind) if network is None else network.name
        return cls(name, tuple(real.shape[1:]), steps, rows.shape[0], tuple(warnings), network)

    @property
    def dimension(self) -> int:
        """k, the number of features."""
        return self.steps[-1].dimension

    def __call__(self, x: Tensor) -> Tensor:
        """phi(x), ``[n, ...] -> [n, k]`` float64.

        Raises:
            InputError: the rows have another shape than those it was fitted on, or NaN or infinite entries.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(
                f"rows of shape {tuple(x.shape[1:])} were given to features fitted on rows of shape {self.shape}",
                "bring all sets to one shape first",
            )
        return self.apply(as_rows(x if self.network is None else self.network(x), "the sample", least=1))

    def in_parts(self, x: Tensor) -> Tensor:
        """phi(x), a few thousand rows at a time: raw rows of images are large in double precision."""
        return torch.cat([self(part) for part in torch.split(x, PART)])

    def apply(self, rows: Tensor) -> Tensor:
        """Phi of flat rows ``[n, d]`` (or of what `network` made of rows) that are known to be finite."""
        z = rows
        for step in self.steps:
            z = step(z)
        return z

    @property
    def fingerprint(self) -> str:
        """BLAKE2b hash of the kind and of every number in the map: the key of a feature cache."""
        h = hashlib.blake2b(f"{self.name}:{self.shape}".encode(), digest_size=16)
        if self.network is not None:
            h.update(self.network.fingerprint.encode())
        for step in self.steps:
            h.update(type(step).__name__.encode())
            for part in vars(step).values():
                h.update(f"{tuple(part.shape)}".encode() + part.contiguous().numpy().tobytes())
        return h.hexdigest()


def _joined(first: Affine, second: Affine) -> tuple[Affine, ...]:
    """One affine map equal to `second` after `first` (whose image is centred)."""
    return (Affine(first.mean, first.matrix @ second.matrix),)


def _principal(rows: Tensor, dimension: int, warnings: list[str]) -> Affine:
    """The leading principal directions, from the smaller of the covariance and the Gram matrix."""
    n, d = rows.shape
    mean = rows.mean(dim=0)
    centred = rows - mean
    small = centred.T @ centred if d <= n else centred @ centred.T
    size = small.shape[0]
    k = min(dimension, size)
    values_np, vectors_np = eigh(small.numpy(), subset_by_index=(size - k, size - 1))
    values, vectors = torch.from_numpy(values_np).flip(0), torch.from_numpy(vectors_np).flip(1)
    keep = values > _tolerance(values, n, d)
    if not keep.any():
        raise InputError("no column of the real training set varies", "check the data: all rows are equal")
    if int(keep.sum()) < dimension:
        warnings.append(f"the real rows span only {int(keep.sum())} of the {dimension} dimensions asked for")
    values, vectors = values[keep], vectors[:, keep]
    matrix = vectors if d <= n else centred.T @ vectors / values.sqrt()
    return Affine(mean, oriented(matrix))


def _whiten(z: Tensor, warnings: list[str]) -> Affine:
    """Whitening W of the rows z: W W^T = C^{-1} on the numerical range of C, shrunk where n <= k."""
    n, k = z.shape
    mean = z.mean(dim=0)
    centred = z - mean
    covariance = centred.T @ centred / (n - 1)
    if n - 1 <= k:  # as many directions as rows: the inverse would be noise
        from sklearn.covariance import ledoit_wolf_shrinkage

        rho = float(ledoit_wolf_shrinkage(centred.numpy(), assume_centered=True))
        warnings.append(f"{n} rows for {k} features: the covariance was shrunk (Ledoit-Wolf, weight {rho:.2g})")
        target = covariance.diagonal().mean()
        covariance = (1.0 - rho) * covariance + rho * target * torch.eye(k, dtype=z.dtype)
    elif n < 10 * k:
        inflation = f"about {(n - 1) / (n - k - 2) - 1:.0%}" if n > k + 2 else "without bound"
        warnings.append(f"{n} rows for {k} features: {INFLATES} {inflation}")
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    keep = values > _tolerance(values, n, k)
    if not keep.any():
        raise InputError("no feature of the real training set varies", "check the data: all rows are equal")
    if not keep.all():
        warnings.append(f"the covariance has rank {int(keep.sum())} of {k}: its null directions were dropped")
    return Affine(mean, oriented(vectors[:, keep]) / values[keep].sqrt())


def _tolerance(values: Tensor, n: int, d: int) -> float:
    return float(values.max().clamp(min=0.0)) * max(n, d) * 1e-15 + torch.finfo(torch.float64).tiny
