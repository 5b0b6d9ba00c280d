r"""Scores: grad log-densities of a diffused law, exact, learned or perturbed.

Forward process (variance preserving, OU clock): :math:`dX = -\tfrac12 X\,dt + dB`, so :math:`X_t = a_t X_0 +
\sigma_t Z` with :math:`a_t = e^{-t/2}` and :math:`\sigma_t^2 = 1 - a_t^2`. A score is :math:`s_t(x) = \nabla \log
q_t(x)`. Exact, learned and perturbed scores are all a :class:`Score`; nothing here is subclassed, only wrapped.

A network may predict other things; they carry the same information (Tweedie's formula; v: Salimans and Ho, arXiv
2202.00512):

.. math::

    \hat\varepsilon = E[Z | X_t = x] = -\sigma_t s_t, \qquad
    \hat x_0 = E[X_0 | X_t = x] = \frac{x + \sigma_t^2 s_t}{a_t}, \qquad
    \hat v = a_t \hat\varepsilon - \sigma_t \hat x_0 = -\frac{\sigma_t}{a_t} (x + s_t) .
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.draws import own_generator
from driftlaw.process.schedule import alpha, expand, sample_times, variance

#: A scalar time or one time per sample, ``[n]``.
Time = float | Tensor
#: Anything that maps ``(x [n, ...], t [] or [n])`` to a vector field of the shape of x.
Field = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Score(Protocol):
    """The score of a diffused law. ``divergence(x, t) -> [n]`` is optional: see :func:`divergence_of`."""

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score at `x` (``[n, ...]``) and OU time `t` (scalar or ``[n]``); same shape as `x`."""
        ...


@runtime_checkable
class Law(Protocol):
    """A probability law with a density at time 0."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws, ``[n, ...]``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, ``[n]``."""
        ...


class FieldScore:
    """A plain callable ``(x, t) -> tensor`` as a Score; `t` arrives as a tensor ``[]`` or ``[n]`` in the dtype of x."""

    def __init__(self, field: Field) -> None:
        self.field = field

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The field at `x`.

        Raises:
            InputError: the callable returned another shape.
        """
        value = self.field(x, sample_times(t, len(x), x.device).to(x.dtype))
        if value.shape != x.shape:
            raise InputError(
                f"the field {self.field!r} maps points {list(x.shape)} to {list(value.shape)}",
                "a field returns the shape of its points; reshape times of shape [n] to broadcast",
            )
        return value

    def _divergence(self, x: Tensor, t: Time, probes: int, generator: torch.Generator) -> Tensor:
        exact = getattr(self.field, "divergence", None)
        if exact is not None:
            value: Tensor = exact(x, sample_times(t, len(x), x.device).to(x.dtype))
            return value
        return _automatic_divergence(self, x, t, probes, generator)


def as_score(field: Score | Field) -> Score:
    """A Score from a Score (returned as it is) or from a callable ``(x, t) -> tensor``.

    Raises:
        InputError: neither.
    """
    if isinstance(field, Score):
        return field
    if callable(field):
        return FieldScore(field)
    raise InputError(f"{type(field).__name__} is not a score", "give an object with score(x, t), or a callable (x, t)")


class Perturbed:
    """A score plus a controlled error field: ``s_hat = s + e``.

    Args:
        base: the score s.
        error: the field e, a callable ``(x, t) -> tensor`` or a Score; its ``divergence(x, t)`` is used if it has one.

    Example:
        >>> from driftlaw.process.laws.mixture import GaussianMixture
        >>> law = GaussianMixture([1.0], [[0.0]], 1.0)
        >>> Perturbed(law, lambda x, t: 0.1 * x).score(torch.ones(1, 1), 0.5)
        tensor([[-0.9000]])
    """

    def __init__(self, base: Score | Field, error: Score | Field) -> None:
        self.base, self.error = as_score(base), as_score(error)

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Base score plus error."""
        return self.base.score(x, t) + self.error.score(x, t)

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Exact divergence of the sum; see :func:`divergence_of` for random probes."""
        return divergence_of(self, x, t)

    def _divergence(self, x: Tensor, t: Time, probes: int, generator: torch.Generator) -> Tensor:
        parts = (self.base, self.error)
        first, second = (divergence_of(part, x, t, probes, generator) for part in parts)
        return first + second


class Checked:
    """A score whose values are checked: see :func:`checked`."""

    def __init__(self, inner: Score) -> None:
        self.inner = inner

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score of the wrapped object.

        Raises:
            InputError: NaN or infinite values, with their number and the first row and time.
        """
        return self._finite(self.inner.score(x, t), x, t, "the score")

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Exact divergence, checked in the same way."""
        return divergence_of(self, x, t)

    def _divergence(self, x: Tensor, t: Time, probes: int, generator: torch.Generator) -> Tensor:
        value = divergence_of(self.inner, x, t, probes, generator)
        return self._finite(value, x, t, "the divergence of the score")

    def _finite(self, value: Tensor, x: Tensor, t: Time, what: str) -> Tensor:
        if bool(torch.isfinite(value).all()):
            return value
        bad = ~torch.isfinite(value).reshape(len(value), -1).all(dim=1)
        row = int(bad.nonzero()[0])
        time = float(sample_times(t, len(x), x.device).expand(len(x))[row])
        point = "" if torch.isfinite(x[row]).all() else ", where the point itself is not finite"
        raise InputError(
            f"{what} ({self.inner!r}) is NaN or infinite in {int(bad.sum())} of {len(bad)} rows;"
            f" the first is row {row} at t = {time:.6g}{point}",
            "check the network's training loss, its input scaling, or raise t0",
        )


def checked(score: Score | Field) -> Checked:
    """The same score, which raises an InputError that names the first row and time when a value is not finite."""
    inner = as_score(score)
    return inner if isinstance(inner, Checked) else Checked(inner)


def divergence_of(
    field: Score | Field, x: Tensor, t: Time, probes: int = 0, generator: torch.Generator | None = None
) -> Tensor:
    r"""Divergence of a score or field, by the best means that it offers.

    An object's own ``divergence(x, t)`` if it has one; else, with ``probes = 0``, automatic differentiation along each
    of the d coordinates (exact, d backward passes); else Hutchinson's estimator :math:`\tfrac1m \sum_j z_j^T J z_j`
    with m Rademacher probes (unbiased; variance :math:`\tfrac1m \sum_{i \ne j} 2 (\tfrac{J_{ij} + J_{ji}}2)^2`).

    Args:
        field: Score or callable; rows must not influence each other.
        x: ``[n, ...]``.
        t: scalar or ``[n]``.
        probes: number of random probes m; 0 for the exact divergence.
        generator: source of the probes; None for fresh entropy.

    Returns:
        ``[n]``, detached when it comes from automatic differentiation.

    Raises:
        InputError: negative `probes`, or a field that varies with x but records no gradient (evaluated under no_grad).
    """
    if probes < 0:
        raise InputError(f"divergence with {probes} probes", "give probes >= 1, or 0 for the exact divergence")
    score = as_score(field)
    wrapped = getattr(score, "_divergence", None)
    if wrapped is not None:
        value: Tensor = wrapped(x, t, probes, own_generator(generator, x.device))
        return value
    exact = getattr(score, "divergence", None)
    if exact is not None:
        value = exact(x, t)
        return value
    return _automatic_divergence(score, x, t, probes, own_generator(generator, x.device))


def _automatic_divergence(score: Score, x: Tensor, t: Time, probes: int, generator: torch.Generator) -> Tensor:
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        value = score.score(point, t)
        flat = value.reshape(len(x), -1)
    total = x.new_zeros(len(x))
    if not value.requires_grad:
        if not torch.equal(score.score(x.detach() + 1e-2, t), value):
            raise InputError(
                f"{score!r} records no gradient with respect to its points, so its divergence cannot be computed",
                "evaluate it without torch.no_grad(), or give it a divergence(x, t)",
            )
        return total
    for i in range(probes or flat.shape[1]):
        if probes:
            bits = torch.randint(0, 2, flat.shape, generator=generator, device=generator.device)
            direction = (2 * bits - 1).to(flat)
        else:
            direction = torch.zeros_like(flat)
            direction[:, i] = 1
        (gradient,) = torch.autograd.grad(flat, point, direction, retain_graph=True, allow_unused=True)
        if gradient is not None:
            total = total + (gradient.reshape(len(x), -1) * direction).sum(1)
    return total / probes if probes else total


def _coefficients(x: Tensor, t: Time, divide_by_sigma: bool = False) -> tuple[Tensor, Tensor]:
    """a_t and sigma_t in the dtype of `x`, ready to broadcast against it."""
    times = sample_times(t, len(x), x.device)
    if divide_by_sigma and bool((times == 0).any()):
        raise InputError("a noise, denoised or v prediction says nothing about the score at t = 0", "give t > 0")
    return tuple(expand(c, x.ndim).to(x.dtype) for c in (alpha(times), variance(times).sqrt()))  # type: ignore[return-value]


def score_from_noise(eps: Tensor, t: Time) -> Tensor:
    r"""Score :math:`-\hat\varepsilon/\sigma_t` from a noise prediction ``[n, ...]``; `t` > 0 is a scalar or ``[n]``."""
    _, sigma = _coefficients(eps, t, divide_by_sigma=True)
    return -eps / sigma


def score_from_denoised(denoised: Tensor, x: Tensor, t: Time) -> Tensor:
    r"""Score :math:`(a_t \hat x_0 - x)/\sigma_t^2` from a denoised prediction; t > 0."""
    a, sigma = _coefficients(x, t, divide_by_sigma=True)
    return (a * denoised - x) / sigma.square()


def denoised_from_score(score: Tensor, x: Tensor, t: Time) -> Tensor:
    r"""Denoised prediction :math:`(x + \sigma_t^2 s_t)/a_t` (Tweedie)."""
    a, sigma = _coefficients(x, t)
    return (x + sigma.square() * score) / a


def score_from_v(v: Tensor, x: Tensor, t: Time) -> Tensor:
    r"""Score :math:`-a_t \hat v/\sigma_t - x` from a v prediction; t > 0."""
    a, sigma = _coefficients(x, t, divide_by_sigma=True)
    return -a / sigma * v - x
