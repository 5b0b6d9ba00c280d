r"""Laws built from laws: the training law of a generation, and the law at a later time.

A refresh policy trains on :math:`q = \sum_k w_k q^k` (this project, theory section 4). Diffusion is linear, so
:math:`q_t = \sum_k w_k q^k_t` and with :math:`r_k(x) \propto w_k q^k_t(x)`

.. math::

    \nabla \log q_t = \sum_k r_k s^k_t =: s, \qquad
    \nabla\cdot s = \sum_k r_k \left(\nabla\cdot s^k_t + |s^k_t - s|^2\right) .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.process.draws import LawValues, categorical, check_weights, draw_labels, normal, own_generator
from driftlaw.process.schedule import alpha, sample_times, variance
from driftlaw.process.score import Law, Time


@runtime_checkable
class ExactLaw(Protocol):
    """A law whose diffused density, score and divergence are known at every OU time.

    ``evaluate(x, t) -> LawValues`` is optional: all three in one pass.
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws at time 0, ``[n, d]``."""
        ...

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        ...

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Score at time t, ``[n, d]``."""
        ...

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        ...


def evaluate(law: ExactLaw, x: Tensor, t: Time = 0.0) -> LawValues:
    """Log density, score and divergence of `law`, in one pass if it offers one."""
    one_pass = getattr(law, "evaluate", None)
    if one_pass is not None:
        values: LawValues = one_pass(x, t)
        return values
    return LawValues(law.log_prob(x, t), law.score(x, t), law.divergence(x, t))


class MixtureLaw:
    """The law sum_k w_k law_k, exact at every time; it is itself a Score.

    Args:
        weights: ``[K]``, non-negative, summing to 1; laws of weight 0 are dropped.
        laws: K laws in the same dimension.

    Raises:
        InputError: no law, weights that do not fit, are negative or do not sum to 1.
    """

    def __init__(self, weights: Tensor | Sequence[float], laws: Sequence[ExactLaw]) -> None:
        given = torch.as_tensor(weights, dtype=torch.float64)
        if not laws or given.shape != (len(laws),):
            raise InputError(
                f"a mixture of {len(laws)} laws with weights of shape {list(given.shape)}", "give one each"
            )
        kept = [k for k, w in enumerate(given.tolist()) if w != 0]
        self.laws = tuple(laws[k] for k in kept)
        self.weights = check_weights(given[kept], len(kept), "mixture of laws")

    def __repr__(self) -> str:
        parts = (f"{w:.4g} {law!r}" for w, law in zip(self.weights.tolist(), self.laws, strict=True))
        return f"MixtureLaw({' + '.join(parts)})"

    @property
    def dim(self) -> int:
        """Dimension d of a point."""
        return int(_require(self.laws[0], "dim"))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws, ``[n, d]``."""
        generator = own_generator(generator)
        label = draw_labels(self.weights, n, generator)
        parts = [law.sample(int((label == k).sum()), generator) for k, law in enumerate(self.laws)]
        return torch.cat(parts)[label.argsort(stable=True).argsort().to(parts[0].device)]

    def evaluate(self, x: Tensor, t: Time = 0.0) -> LawValues:
        """Log density, score and divergence of the score at time t (``[n, d]`` points, scalar or ``[n]`` times)."""
        values = [evaluate(law, x, t) for law in self.laws]
        log_density, r = self._mix([v.log_density for v in values])
        score = sum(
            (r_k.unsqueeze(1) * v.score for r_k, v in zip(r, values, strict=True)), torch.zeros_like(x).double()
        )
        divergence = torch.zeros_like(log_density)
        for r_k, v in zip(r, values, strict=True):
            divergence = divergence + r_k * (v.divergence + (v.score - score).square().sum(1))
        return LawValues(log_density.to(x.dtype), score.to(x.dtype), divergence.to(x.dtype))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        return self._mix([law.log_prob(x, t) for law in self.laws])[0].to(x.dtype)

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]``."""
        return self.evaluate(x, t).score

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        return self.evaluate(x, t).divergence

    def responsibilities(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Posterior probability of each kept law given X_t = x, ``[n, K]``."""
        return self._mix([law.log_prob(x, t) for law in self.laws])[1].T.to(x.dtype)

    def second_moment(self) -> float:
        """E|X|^2, exact if every law's is."""
        moments = [float(_require(law, "second_moment")()) for law in self.laws]
        return float(sum(w * m for w, m in zip(self.weights.tolist(), moments, strict=True)))

    def diffuse(self, t: float) -> MixtureLaw:
        """The law at time t."""
        return MixtureLaw(self.weights, [diffuse(law, t) for law in self.laws])

    def reverse_transition(self, x: Tensor, t: Time, s: Time, generator: torch.Generator | None = None) -> Tensor:
        """One exact draw of X_s given X_t = x: the law by its responsibility, then that law's own transition.

        Args, returns and errors as :meth:`driftlaw.process.laws.mixture.GaussianMixture.reverse_transition`.
        """
        with torch.no_grad():
            generator = own_generator(generator, x.device)
            label = categorical(self.responsibilities(x, t).cumsum(dim=1), generator)
            out = torch.empty_like(x)
            at, to = (sample_times(u, len(x), x.device).expand(len(x)) for u in (t, s))
            for k, law in enumerate(self.laws):
                rows = label == k
                out[rows] = _require(law, "reverse_transition")(x[rows], at[rows], to[rows], generator)
            return out

    def _mix(self, log_densities: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Log density of the blend ``[n]`` and responsibilities ``[K, n]``, float64."""
        stack = torch.stack([p.double() for p in log_densities])
        stack = stack + self.weights.log().to(stack.device).unsqueeze(1)
        total = stack.logsumexp(dim=0)
        return total, (stack - total).exp()


class AtTimeZero:
    """A law that is known by its draws and its log density at time 0 alone, such as an own model with ``log_prob``.

    Args:
        law: anything with ``sample(n, generator) -> [n, ...]`` and ``log_prob(x) -> [n]`` (nats).
        shape: of one draw; points here are flattened.
    """

    def __init__(self, law: Law, shape: tuple[int, ...]) -> None:
        self.inner, self.shape = law, shape

    def __repr__(self) -> str:
        return f"AtTimeZero({self.inner!r})"

    @property
    def dim(self) -> int:
        """Dimension d of a point."""
        return math.prod(self.shape)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws, ``[n, d]``."""
        return self.inner.sample(n, generator).flatten(1)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time 0, nats, ``[n]``.

        Raises:
            InputError: another time.
        """
        if bool((torch.as_tensor(t) != 0).any()):
            raise self._refusal()
        return self.inner.log_prob(x.view(len(x), *self.shape))

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Not known.

        Raises:
            InputError: always.
        """
        raise self._refusal()

    def divergence(self, x: Tensor, t: Time) -> Tensor:
        """Not known.

        Raises:
            InputError: always.
        """
        raise self._refusal()

    def _refusal(self) -> InputError:
        return InputError(
            f"{self.inner!r} has a density at time 0 alone", "return an ExactModel to have it at all times"
        )


def known_later(law: ExactLaw) -> bool:
    """Whether a law is known at times after 0."""
    return (
        all(known_later(part) for part in law.laws) if isinstance(law, MixtureLaw) else not isinstance(law, AtTimeZero)
    )


class Diffused:
    """The law P_{t0} q: its time-t functions are those of q at t0 + t.

    Args:
        law: the law q.
        t0: OU time >= 0.
    """

    def __init__(self, law: ExactLaw, t0: float) -> None:
        self.law, self.t0 = law, float(sample_times(t0, 1))

    def __repr__(self) -> str:
        return f"Diffused({self.law!r}, t0={self.t0:.6g})"

    @property
    def dim(self) -> int:
        """Dimension d of a point."""
        return int(_require(self.law, "dim"))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` independent draws: a X + sigma Z."""
        generator = own_generator(generator)
        x = self.law.sample(n, generator)
        noise = normal(tuple(x.shape), generator, x.dtype, x.device)
        return float(alpha(self.t0)) * x + float(variance(self.t0).sqrt()) * noise

    def evaluate(self, x: Tensor, t: Time = 0.0) -> LawValues:
        """All three in one pass."""
        return evaluate(self.law, x, self.t0 + t)

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log density at time t, nats, ``[n]``."""
        return self.law.log_prob(x, self.t0 + t)

    def score(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Score at time t, ``[n, d]``."""
        return self.law.score(x, self.t0 + t)

    def divergence(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Divergence of the score at time t, ``[n]``."""
        return self.law.divergence(x, self.t0 + t)

    def second_moment(self) -> float:
        """E|X|^2 of an exact law: a^2 E|X_0|^2 + d sigma^2."""
        before = float(_require(self.law, "second_moment")())
        return float(alpha(self.t0)) ** 2 * before + self.dim * float(variance(self.t0))

    def reverse_transition(self, x: Tensor, t: Time, s: Time, generator: torch.Generator | None = None) -> Tensor:
        """One exact draw of X_s given X_t = x, both times counted from t0."""
        draw: Tensor = _require(self.law, "reverse_transition")(x, self.t0 + t, self.t0 + s, generator)
        return draw


def diffuse(law: ExactLaw, t: float) -> ExactLaw:
    """The law at time t: its own ``diffuse(t)`` if it has one, else a :class:`Diffused` view."""
    own = getattr(law, "diffuse", None)
    if own is None:
        return Diffused(law, t)
    diffused: ExactLaw = own(t)
    return diffused


def _require(law: ExactLaw, name: str) -> Any:
    value = getattr(law, name, None)
    if value is None:
        raise InputError(f"{law!r} has no {name}", "use a GaussianMixture, a KernelMixture or a mixture of them")
    return value
