r"""Scores and weights extrapolated away from synthetic data.

A base model :math:`\hat p` is fitted as its learner would, then a *self* model to the base's own samples. The guided
model goes the other way by a weight w:

.. math:: \text{score (SIMS): } s_w = (1 + w)\,s_{base} - w\,s_{self}, \qquad
          \text{weights (Neon): } \theta_w = (1 + w)\,\theta_{base} - w\,\theta_{self} .

With :math:`s_{base} = s + e` and :math:`s_{self} = s_{base} + e'` the guided error is :math:`e - w e'`. So guidance
helps where the error of training on own samples is aligned with the error of the model, and hurts where it is not:
:mod:`driftlaw.theory.extrapolation` has the weight that is best and what it gains.

References: Alemohammad et al., arXiv 2408.16333 (SIMS); Alemohammad et al., arXiv 2510.03597 (Neon).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from driftlaw import seeding
from driftlaw.config import validate
from driftlaw.errors import ConfigError, InputError
from driftlaw.kinds import ESTIMATORS
from driftlaw.learn.estimator import ALONE, FitContext, Model
from driftlaw.learn.guided.model import GuidedModel
from driftlaw.learn.guided.stages import Stage, finished_base
from driftlaw.learn.rows import check_rows

#: Tensors that are rows of data: there is nothing to extrapolate between two sets of rows.
_ROWS = ("centres", "rows")


@dataclass(frozen=True)
class Guided:
    """A learner that extrapolates another away from what that learns of its own samples.

    Args:
        estimator: the learner, or its configuration; it needs a score (or, with mode "weights", weights that keep their
            meaning: a neural learner or a single Gaussian).
        weight: w >= 0; 0 is the learner itself.
        mode: "score" (SIMS) or "weights" (Neon).
        rows: rows of the base's samples that the self model trains on; None means as many as the base had.
        solver: "heun" or "multistep" probability flow, or "sde", the reverse diffusion (mode "score").
        solver_steps: steps of the solver.
        t0, T: horizon on the OU clock (mode "score"); None takes the learner's own, or 0.001 and 8 where it has none.

    Example:
        >>> import driftlaw as dl
        >>> g = torch.Generator().manual_seed(0)
        >>> model = Guided(dl.KDE(0.6), 0.5).fit(torch.randn(200, 2, generator=g))
        >>> model.sample(4, g).shape
        torch.Size([4, 2])
    """

    kind: ClassVar[str] = "guided"
    estimator: Annotated[Any, BeforeValidator(ESTIMATORS.build)]
    weight: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    mode: Literal["score", "weights"] = "score"
    rows: Annotated[int, Field(ge=2)] | None = None
    solver: Literal["heun", "multistep", "sde"] = "heun"
    solver_steps: Annotated[int, Field(ge=1)] = 40
    t0: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    T: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        validate(self)
        if isinstance(self.estimator, Guided):
            raise ConfigError("Guided: the learner is guided already", "give the learner itself, with one weight")
        low, high = self.horizon
        if self.mode == "score" and low >= high:
            raise ConfigError(f"Guided: t0 = {low} is not below T = {high}", "set t0 < T")

    @property
    def horizon(self) -> tuple[float, float]:
        """OU times t0 and T of the guided sampler."""
        own = getattr(self.estimator, "t0", 0.0) or 1e-3
        return (own if self.t0 is None else self.t0), (getattr(self.estimator, "T", 8.0) if self.T is None else self.T)

    @property
    def probes(self) -> bool:
        """Whether a dry run may fit it: not a learner that is timed by the step."""
        return bool(getattr(self.estimator, "probes", True)) and not hasattr(self.estimator, "steps")

    def config(self) -> dict[str, Any]:
        """YAML-ready mapping of the kind and all settings."""
        names = ("weight", "mode", "rows", "solver", "solver_steps", "t0", "T")
        inner = ESTIMATORS.describe(self.estimator)
        return {"kind": self.kind, "estimator": inner, **{name: getattr(self, name) for name in names}}

    def check(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        """What the learner checks before anything is written."""
        check = getattr(self.estimator, "check", None)
        if check is not None:
            check(shape, device)

    def fit(self, data: Tensor, context: FitContext = ALONE) -> Model:
        """Fit the base to the rows, the self model to the base's samples, and extrapolate.

        Raises:
            InputError: what the learner refuses, a learner without a score (mode "score") or without weights that keep
                their meaning (mode "weights"), or an extrapolation that is no model.
        """
        data = check_rows(data)
        shape = tuple(data.shape[1:])
        before = context.warm_start
        first = replace(
            context,
            warm_start=before.base if isinstance(before, GuidedModel) else before,
            checkpoint=None if context.checkpoint is None else Stage(context.checkpoint, "base"),
            progress=lambda f, text: context.progress(f / 2, f"base: {text}"),
        )
        done = finished_base(context.checkpoint)
        if done is None:
            base = self.estimator.fit(data, first)
            training = dict(getattr(base, "training", {}))
        else:
            base, training = self.estimator.load(done[0], shape), done[1]
        self._check_base(base, data)
        own = base.sample(self.rows or len(data), seeding.generator(context.seed, "guided", "samples")).cpu()
        carried = (base.state(), training)
        second = FitContext(
            seed=seeding.stream_seed(context.seed, "guided", "self"),
            held_out=context.held_out,
            warm_start=base,
            checkpoint=None if context.checkpoint is None else Stage(context.checkpoint, "self", carried),
            progress=lambda f, text: context.progress(0.5 + f / 2, f"on its own samples: {text}"),
            device=context.device,
            generation=context.generation,
            samples=context.samples,
        )
        other = self.estimator.fit(own, second)
        training |= {f"self.{key}": value for key, value in getattr(other, "training", {}).items()}
        return self._guided(base, other, shape, training)

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> Model:
        """Inverse of the state of either mode."""
        if self.mode == "weights":
            model: Model = self.estimator.load(state, shape)
            return model
        parts = [
            {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            for name in ("base", "self")
        ]
        if not all(parts):
            raise InputError("the state does not hold a base and a self model", "load it with its own configuration")
        base, other = (self.estimator.load(part, shape) for part in parts)
        return self._model(base, other, shape, {})

    def _model(self, base: Model, other: Model, shape: tuple[int, ...], training: dict[str, float]) -> GuidedModel:
        t0, T = self.horizon
        return GuidedModel(base, other, self.weight, shape, t0, T, self.solver, self.solver_steps, training)

    def _guided(self, base: Model, other: Model, shape: tuple[int, ...], training: dict[str, float]) -> Model:
        if self.mode == "score":
            return self._model(base, other, shape, training)
        a, b = base.state(), other.state()
        try:
            state = {
                k: ((1 + self.weight) * v.double() - self.weight * b[k].double()).to(v.dtype)
                if v.is_floating_point()
                else v
                for k, v in a.items()
            }
            model: Model = self.estimator.load(state, shape)
        except InputError as error:
            raise InputError(
                f"weights extrapolated by {self.weight} are no model: {error.what}", "lower weight, or use mode: score"
            ) from error
        model.training = training  # type: ignore[attr-defined]
        return model

    def _check_base(self, base: Model, data: Tensor) -> None:
        """Refuse a learner that cannot be extrapolated in this mode."""
        if self.mode == "score":
            with torch.no_grad():
                base.score(data[:1], self.horizon[0])  # a model that is known by its samples says so
            return
        state = base.state()
        several = len(state.get("weights", ())) > 1 and "means" in state
        if several or any(name in state for name in _ROWS):
            what = "components, whose order means nothing," if several else "rows of data"
            raise InputError(
                f"the weights of {type(self.estimator).__name__} are {what} and cannot be extrapolated",
                "use mode: score, or a neural learner",
            )
