r"""The hot sum: density, score and divergence of a diffused kernel mixture, exactly and in one pass.

The kernel mixture :math:`q = \sum_k w_k N(c_k, h^2 I)` (N centres, default :math:`w_k = 1/N`; a KDE, or the empirical
law when h = 0) diffuses to centres :math:`a_t c_k` and variance :math:`v_t = a_t^2 h^2 + \sigma_t^2`. With the
responsibilities :math:`r_k(x) \propto w_k e^{-|x - a c_k|^2/2v}`, :math:`\bar c = \sum_k r_k c_k` and
:math:`V = \sum_k r_k |c_k|^2 - |\bar c|^2 \ge 0`,

.. math::

    s_t(x) = \frac{a \bar c - x}{v}, \qquad
    \nabla\cdot s_t(x) = \sum_k r_k \frac{|a c_k - x|^2}{v^2} - \frac dv - |s_t|^2 = \frac{a^2}{v^2} V - \frac dv .

**The score of a KDE is softmax attention**: query :math:`(a x/v, -a^2/2v, 1)`, key :math:`(c, |c|^2, \log w)`, value
:math:`(c, |c|^2)`; the log-sum-exp that attention kernels keep gives :math:`\log q_t`. The time lives in the query, so
times may differ per sample. Three paths compute it:

- *compiled*: :mod:`driftlaw.native.kernel_sum`, if this machine has a C++ compiler and there are at least
  :data:`COMPILED_CENTRES` centres; float32 arithmetic relative to local means of the centres;
- *fast*: PyTorch's fused attention in float32, on the CPU and on CUDA (:mod:`driftlaw.process.laws.attention`);
- *plain*: blocked GEMM and log-sum-exp in float64, public API only. It serves float64 points, automatic
  differentiation, devices where no fused operator passes its trial, and float32 points that are too ill-conditioned
  for it.

Centres are shifted to mean zero first. What float32 loses then grows with the size of the exponents that cancel,
:math:`\kappa(x, t) = a R \max(a R, |x|)/v`, R the largest distance of a centre from their mean. A float32 point takes
the fast path only if :math:`\kappa \le` :data:`CONDITION_LIMIT`. The compiled path loses less and knows how much: it
reports the largest exponent whose rounding matters, at most :data:`COMPILED_LIMIT` :math:`\sqrt d`. The choice is made
point by point, so a result never depends on the other points.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.native import kernel_sum as native
from driftlaw.numerics.memory import PASS_BYTES, fitting
from driftlaw.numerics.rows import check_finite
from driftlaw.process.draws import (
    LawValues,
    categorical,
    check_points,
    check_weights,
    draw_labels,
    normal,
    own_generator,
)
from driftlaw.process.laws.attention import fast_attention
from driftlaw.process.schedule import alpha, expand, sample_times, variance
from driftlaw.process.score import Time

#: Largest kappa (module docstring) at which float32 points take the fast path.
CONDITION_LIMIT = 400.0
#: Fewest centres for the compiled path: below, compiling and packing cost more than they save.
COMPILED_CENTRES = 2048
#: Largest lost exponent per sqrt(d), nats, of the compiled path (module docstring).
COMPILED_LIMIT = 60.0
#: Points and centres in one block of the plain path.
POINTS, CENTRES = 256, 2048
#: Exponents below this are raised to it: weights of 1e-35 change nothing, denormal numbers slow matrix products down.
_FLOOR = -80.0

#: What :meth:`KernelMixture.evaluate` returns.
KernelSums = LawValues


class _Sums(NamedTuple):
    """log sum_k w_k exp(a x.c/v - a^2 |c|^2/2v) ``[m]``, c_bar ``[m, d]`` and sum_k r_k |c_k|^2 ``[m]``, float64."""

    log_sum: Tensor
    mean: Tensor
    square: Tensor


class KernelMixture:
    r"""The law :math:`\sum_k w_k N(c_k, h^2 I)` and all of its diffused versions; it is itself a Score.

    Args:
        centres: ``[N, d]`` float32 or float64.
        bandwidth: h >= 0; h = 0 is the empirical law, whose density exists for t > 0 only.
        weights: ``[N]``, positive, summing to 1; None for 1/N each.

    Raises:
        InputError: no centres, wrong dtype or shape, NaN or infinite rows, a negative bandwidth, unusable weights.

    Assumptions: results have the dtype of the points. Float64 points: rounding only. Float32 points: see the module
    docstring. Temporaries stay within :data:`~driftlaw.numerics.memory.PASS_BYTES` unless gradients are recorded.

    Example:
        >>> law = KernelMixture(torch.tensor([[-1.0], [1.0]]), bandwidth=0.5)
        >>> law.score(torch.zeros(1, 1), t=0.1)
        tensor([[0.]])
    """

    def __init__(self, centres: Tensor, bandwidth: float, weights: Tensor | None = None) -> None:
        if centres.dtype not in (torch.float32, torch.float64):
            raise InputError(f"centres of dtype {centres.dtype}", "convert them to float32 or float64")
        if centres.ndim != 2 or centres.shape[0] < 1 or centres.shape[1] < 1:
            raise InputError(f"centres of shape {list(centres.shape)}", "give a tensor [N, d] with N >= 1 and d >= 1")
        check_finite(centres, "centres", "drop them")
        if not (math.isfinite(bandwidth) and bandwidth >= 0):
            raise InputError(f"bandwidth {bandwidth}", "the bandwidth is finite and >= 0")
        self.centres = centres.detach()
        self.bandwidth = float(bandwidth)
        self.weights = (
            None if weights is None else check_weights(weights, len(centres), "kernel mixture").to(centres.device)
        )
        self._shift = self.centres.mean(dim=0, dtype=torch.float64)
        self._radius = float((self.centres - self._shift).norm(dim=1).max())

    @property
    def dim(self) -> int:
        """Dimension d of a point."""
        return int(self.centres.shape[1])

    def __len__(self) -> int:
        return int(self.centres.shape[0])

    def __repr__(self) -> str:
        return f"KernelMixture(N={len(self)}, d={self.dim}, bandwidth={self.bandwidth})"

    def sample(self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """`n` independent draws ``[n, d]`` of the law at time 0."""
        device = self.centres.device
        generator = own_generator(generator, device)
        if self.weights is None:
            label = torch.randint(len(self), (n,), generator=generator, device=generator.device).to(device)
        else:
            label = draw_labels(self.weights, n, generator)
        return self.centres[label].to(dtype) + self.bandwidth * normal((n, self.dim), generator, dtype, device)

    def evaluate(self, x: Tensor, t: Time = 0.0) -> KernelSums:
        """Log density, score and divergence of the score at time t in one pass over the centres.

        Args:
            x: ``[n, d]`` float32 or float64.
            t: OU time, scalar or ``[n]``.

        Returns:
            :class:`~driftlaw.process.draws.LawValues` in the dtype of `x`.

        Raises:
            InputError: wrong dtype, shape or time, or a zero variance (h = 0 at t = 0).
        """
        x64, a, v = self._prepare(x, t)
        if self._compiled_serves(x, x64, a):
            sums = self._compiled_sums(x64, a, v, self._packed, 0.0, 0, len(self))
        else:
            sums = self._sums(x64, a, v, self._fast_rows(x, x64, a, v))
        v1 = expand(v, 2)
        log_density = sums.log_sum - x64.square().sum(1) / (2 * v) - self.dim / 2 * torch.log(2 * math.pi * v)
        score = (expand(a, 2) * sums.mean - x64) / v1
        spread = (sums.square - sums.mean.square().sum(1)).clamp(min=0)
        divergence = (a / v).square() * spread - self.dim / v
        return KernelSums(log_density.to(x.dtype), score.to(x.dtype), divergence.to(x.dtype))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        return self.evaluate(x, t).log_density

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]``."""
        return self.evaluate(x, t).score

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        return self.evaluate(x, t).divergence

    def diffuse(self, t: float) -> KernelMixture:
        """The law at time t: centres a c, bandwidth sqrt(a^2 h^2 + sigma_t^2)."""
        a, noise = float(alpha(sample_times(t, 1))), float(variance(t))
        return KernelMixture(a * self.centres, math.sqrt(a * a * self.bandwidth**2 + noise), self.weights)

    def second_moment(self) -> float:
        """E|X|^2 at time 0, exact: sum_k w_k |c_k|^2 + d h^2."""
        squares = self.centres.double().square().sum(1)
        mean = squares.mean() if self.weights is None else self.weights @ squares
        return float(mean) + self.dim * self.bandwidth**2

    def reverse_transition(self, x: Tensor, t: Time, s: Time, generator: torch.Generator | None = None) -> Tensor:
        r"""One exact draw of X_s given X_t = x, s <= t: the ideal reverse process without time steps.

        Draws the centre :math:`j \sim r(x)` (first its block by the blocks' log-sum-exps, then within the block), then
        the Gaussian bridge, with :math:`b = a_{t-s}`:

        .. math:: X_s | X_t = x, j \sim N(a_s c_j + b \tfrac{v_s}{v_t} (x - a_t c_j),\; v_s (1 - b^2)/v_t \cdot I)

        Args:
            x: ``[n, d]``.
            t: time of `x`, scalar or ``[n]``.
            s: earlier noise level, 0 <= s <= t, scalar or ``[n]``.
            generator: source of the draws; None for fresh entropy.

        Returns:
            ``[n, d]`` in the dtype of `x`.

        Raises:
            InputError: as :meth:`evaluate`, or s > t.
        """
        with torch.no_grad():
            device = self.centres.device
            generator = own_generator(generator, device)
            x64, a, v = self._prepare(x, t)
            to = sample_times(s, len(x), x.device)
            bridge = variance(bridge_gap(sample_times(t, len(x), x.device), to))
            a_s, b = alpha(to), (1 - bridge).sqrt()
            v_s = a_s.square() * self.bandwidth**2 + variance(to)
            blocks = self._block_log_sums(x, x64, a, v)
            centre = self.centres[self._labels(x64, a, v, blocks, generator)].double()
            mean = expand(a_s, 2) * centre + expand(b * v_s / v, 2) * (x.double() - expand(a, 2) * centre)
            noise = normal((len(x), self.dim), generator, torch.float64, device)
            return (mean + expand((v_s * bridge / v).sqrt(), 2) * noise).to(x.dtype)

    def _prepare(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Shifted points x - a mean(c), a_t and v_t, float64."""
        if check_points(x, self.dim).device != self.centres.device:
            raise InputError(f"points on {x.device} for centres on {self.centres.device}", "move one to the other")
        times = sample_times(t, len(x), x.device)
        a = alpha(times)
        v = a.square() * self.bandwidth**2 + variance(times)
        if bool((v <= 0).any()):
            raise InputError(
                "the kernel mixture has bandwidth 0 and so no density at t = 0", "give t > 0 or a bandwidth"
            )
        return x.double() - expand(a, 2) * self._shift, a, v

    def _float32_serves(self, x: Tensor, x64: Tensor, a: Tensor) -> bool:
        recording = torch.is_grad_enabled() and x64.requires_grad | a.requires_grad
        return x.dtype == torch.float32 and not recording

    def _compiled_serves(self, x: Tensor, x64: Tensor, a: Tensor) -> bool:
        here = len(self) >= COMPILED_CENTRES and x.device.type == "cpu"
        return here and self._float32_serves(x, x64, a) and native.available()

    @functools.cached_property
    def _packed(self) -> native.Packed:
        return native.Packed(self.centres - self._shift, self.weights)

    @functools.cached_property
    def _packed_blocks(self) -> list[tuple[native.Packed, float]]:
        """Each block of :data:`CENTRES` centres, packed with weights that sum to 1, and the logarithm of its weight."""
        blocks = []
        for j in range(0, len(self), CENTRES):
            centres = self.centres[j : j + CENTRES] - self._shift
            share = self._log_weights(j, j + len(centres)).logsumexp(0)
            weights = None if self.weights is None else (self.weights[j : j + CENTRES].log() - share).exp()
            blocks.append((native.Packed(centres, weights), float(share)))
        return blocks

    def _compiled_sums(
        self, x: Tensor, a: Tensor, v: Tensor, packed: native.Packed, share: float, start: int, stop: int
    ) -> _Sums:
        """Sums over the packed centres start..stop; the points that lose too much there take the plain path."""
        sums = packed.sums(x, a, v)
        out = _Sums(sums.log_sum + share + x.square().sum(1) / (2 * v), sums.mean, sums.square)
        bad = ~(sums.lost <= COMPILED_LIMIT * math.sqrt(self.dim))
        if bool(bad.any()):
            plain = self._plain_sums(x[bad], a.expand(len(x))[bad], v.expand(len(x))[bad], start, stop)
            for whole, part in zip(out, plain, strict=True):
                whole[bad] = part
        return out

    def _fast_rows(self, x: Tensor, x64: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """Which points take the fast path, bool ``[n]``."""
        if not self._float32_serves(x, x64, a) or fast_attention(x.device.type) is None:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        reach = a * self._radius
        return reach * torch.maximum(reach, x64.norm(dim=1)) / v <= CONDITION_LIMIT

    def _sums(self, x: Tensor, a: Tensor, v: Tensor, fast: Tensor, start: int = 0, stop: int | None = None) -> _Sums:
        """Sums over centres start..stop, of the points that are `fast` by fused attention, of the others plainly."""
        stop = len(self) if stop is None else stop
        if not bool(fast.any()):  # also for no points at all, which the fused operator answers with a crash
            return self._plain_sums(x, a, v, start, stop)
        if bool(fast.all()):
            return self._fast_sums(x, a, v, start, stop)
        a, v = a.expand(len(x)), v.expand(len(x))
        out = _Sums(x.new_empty(len(x)), torch.empty_like(x), x.new_empty(len(x)))
        for rows, path in ((fast, self._fast_sums), (~fast, self._plain_sums)):
            for whole, part in zip(out, path(x[rows], a[rows], v[rows], start, stop), strict=True):
                whole[rows] = part
        return out

    @functools.cached_property
    def _keys(self) -> tuple[Tensor, Tensor]:
        """Float32 keys (c, |c|^2 in two parts, log w) and values (c, |c|^2), ``[1, 1, N, width]``."""
        d, width = self.dim, -(-(self.dim + 3) // 16) * 16
        keys, values = (torch.zeros(1, 1, len(self), width, device=self.centres.device) for _ in range(2))
        c = (self.centres - self._shift).float()
        square = c.double().square().sum(1)
        keys[0, 0, :, :d] = values[0, 0, :, :d] = c
        keys[0, 0, :, d] = values[0, 0, :, d] = square.float()
        keys[0, 0, :, d + 1] = (square - square.float()).float()
        keys[0, 0, :, d + 2] = self._log_weights(0, len(self))
        return keys, values

    def _log_weights(self, start: int, stop: int) -> Tensor:
        if self.weights is None:
            return self._shift.new_full((stop - start,), -math.log(len(self)))
        return self.weights[start:stop].log()

    def _fast_sums(self, x: Tensor, a: Tensor, v: Tensor, start: int, stop: int) -> _Sums:
        """Sums over centres start..stop by fused attention."""
        attention, (keys, values), d = fast_attention(x.device.type), self._keys, self.dim
        assert attention is not None
        query = torch.zeros(1, 1, len(x), keys.shape[-1], device=x.device)
        query[0, 0, :, :d] = expand(a / v, 2) * x
        query[0, 0, :, d] = query[0, 0, :, d + 1] = -a.square() / (2 * v)
        query[0, 0, :, d + 2] = 1.0
        keys, values = keys[:, :, start:stop], values[:, :, start:stop]
        out, log_sum = attention(query, keys, values)
        return _Sums(log_sum[0, 0].double(), out[0, 0, :, :d].double(), out[0, 0, :, d].double())

    def _logits(self, x: Tensor, a: Tensor, v: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Exponents ``[m, stop - start]`` and values (c, |c|^2) ``[stop - start, d + 1]``, float64."""
        c = self.centres[start:stop].double() - self._shift
        values = torch.cat([c, c.square().sum(1, keepdim=True)], dim=1)
        query = torch.cat([expand(a / v, 2) * x, (-a.square() / (2 * v)).expand(len(x)).unsqueeze(1)], dim=1)
        return torch.addmm(self._log_weights(start, stop), query, values.T), values

    def _plain_sums(self, x: Tensor, a: Tensor, v: Tensor, start: int, stop: int) -> _Sums:
        """Sums over centres start..stop by blocked float64 matrix products; differentiable."""
        parts = []
        for i in range(0, max(len(x), 1), POINTS):
            rows = slice(i, i + POINTS)
            x_i, a_i, v_i = x[rows], a[rows] if a.ndim else a, v[rows] if v.ndim else v
            total: tuple[Tensor, Tensor] | None = None
            for j in range(start, stop, CENTRES):
                logits, values = self._logits(x_i, a_i, v_i, j, min(j + CENTRES, stop))
                top = logits.detach().amax(dim=1, keepdim=True)
                r = (logits - top).clamp_(min=_FLOOR).exp_()
                total_r = r.sum(dim=1, keepdim=True)
                log_sum, mean = (top + total_r.log()).squeeze(1), r @ values / total_r
                total = (log_sum, mean) if total is None else _merge(*total, log_sum, mean)
            assert total is not None
            parts.append(_Sums(total[0], total[1][:, :-1], total[1][:, -1]))
        return _Sums(*(torch.cat(p) for p in zip(*parts, strict=True)))

    def _block_log_sums(self, x: Tensor, x64: Tensor, a: Tensor, v: Tensor) -> Tensor:
        """Logarithm of the sum over each block of :data:`CENTRES` centres, ``[n, blocks]``, by the fastest path."""
        ends = [(j, min(j + CENTRES, len(self))) for j in range(0, len(self), CENTRES)]
        if self._compiled_serves(x, x64, a):
            parts = zip(self._packed_blocks, ends, strict=True)
            return torch.stack([self._compiled_sums(x64, a, v, *block, *e).log_sum for block, e in parts], dim=1)
        fast = self._fast_rows(x, x64, a, v)
        return torch.stack([self._sums(x64, a, v, fast, *e).log_sum for e in ends], dim=1)

    def _labels(self, x: Tensor, a: Tensor, v: Tensor, blocks: Tensor, generator: torch.Generator) -> Tensor:
        """One centre per point, drawn from the responsibilities of blocks and then within one, int64 ``[n]``."""
        n, starts = len(x), range(0, len(self), CENTRES)
        a, v = a.expand(n), v.expand(n)
        block = categorical(blocks.softmax(dim=1).cumsum(dim=1), generator)
        order, at = block.argsort(stable=True), 0
        label = torch.empty_like(block)
        for j, count in zip(starts, torch.bincount(block, minlength=len(starts)).tolist(), strict=True):
            for rows in torch.split(order[at : at + count], fitting(32 * CENTRES, PASS_BYTES)):
                logits, _ = self._logits(x[rows], a[rows], v[rows], j, min(j + CENTRES, len(self)))
                label[rows] = j + categorical(logits.softmax(dim=1).cumsum(dim=1), generator)
            at += count
        return label


def _merge(log_a: Tensor, mean_a: Tensor, log_b: Tensor, mean_b: Tensor) -> tuple[Tensor, Tensor]:
    """Combine the log-sums and weighted means of two disjoint sets of centres."""
    total = torch.logaddexp(log_a, log_b)
    return total, (log_a - total).exp().unsqueeze(1) * mean_a + (log_b - total).exp().unsqueeze(1) * mean_b


def bridge_gap(t: Tensor, s: Tensor) -> Tensor:
    """Time between the ends of a reverse transition from t to s.

    Raises:
        InputError: s > t somewhere.
    """
    gap = t - s
    if bool((gap < 0).any()):
        raise InputError("a reverse transition needs s <= t", "t is the noisier time, where x lives")
    return gap
