"""The contract of a learner: a pure ``fit``, samples from a generator, a state that rebuilds the model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from driftlaw import seeding
from driftlaw.errors import DriftlawError
from driftlaw.kinds import ESTIMATORS
from driftlaw.learn.estimator import FitContext
from driftlaw.learn.function import CallableEstimator
from driftlaw.testing.checking import check_config, identical, report, require, untouched


def check_estimator(
    estimator: Any, *, rows: Tensor | None = None, shape: tuple[int, ...] = (2,), n: int = 120, seed: int = 0
) -> None:
    """Check a learner on standard normal rows or on given ones, with every field of the context that a run gives.

    Checked: ``fit`` is a pure function of rows and seed, changes neither the rows nor a global random state, and takes
    a held-out set, a warm start, a checkpoint, origins and labels; a finished checkpoint gives the same model;
    ``sample`` gives finite float32 rows that the generator alone decides; ``load(state())`` gives the same samples;
    ``config()`` is plain data and names no other class; ``score`` and ``log_prob``, where they are, have the right
    shape and treat rows one by one (one that raises ``NotImplementedError`` counts as absent).

    Args:
        estimator: the learner; a quick one, or one with few steps: it is fitted five times.
        rows: ``[n, ...]`` float32 to learn from, for a learner of other than real numbers; in place of shape and n.
        shape: of one row, ``(d,)`` or ``(c, h, w)``.
        n: training rows.
        seed: of rows and fits.

    Raises:
        ConformanceError: everything that failed.

    Example:
        >>> from driftlaw.learn import KDE
        >>> check_estimator(KDE(0.5), shape=(1, 4, 4))
    """
    run = _Run(estimator, rows, tuple(shape), n, seed)
    first = [run.methods, run.fit_is_pure]
    report(estimator, first)  # without a model there is nothing to check
    report(
        estimator,
        [run.context, run.checkpoint, run.samples, run.state, run.settings, run.score, run.log_prob],
    )


class _Checkpoint:
    """In memory."""

    def __init__(self) -> None:
        self.saved: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self.saved

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        self.saved = {k: v.clone() for k, v in tensors.items()}, dict(meta)


class _Run:
    def __init__(self, estimator: Any, rows: Tensor | None, shape: tuple[int, ...], n: int, seed: int) -> None:
        self.estimator, self.seed = estimator, seed
        self.rows = torch.randn(n, *shape, generator=self._stream("rows")) if rows is None else rows
        self.shape, self.n = tuple(self.rows.shape[1:]), len(self.rows)

    def _stream(self, *names: str) -> torch.Generator:
        return seeding.generator(self.seed, "testing", *names)

    def _fit(self, **changes: Any) -> Any:
        return self.estimator.fit(self.rows.clone(), self._context(**changes))

    def _context(self, **changes: Any) -> FitContext:
        """Context of a fit; only a conditional learner may count on labels."""
        told: dict[str, Any] = {"labels": torch.arange(self.n) % 2, "classes": ("even", "odd")}
        needed = told if getattr(self.estimator, "conditional", False) or "origin" in changes else {}
        return FitContext(seed=self.seed + 1, samples=self.n, **needed | changes)

    @cached_property
    def model(self) -> Any:
        return self._fit()

    def methods(self) -> None:
        missing = [name for name in ESTIMATORS.methods if not callable(getattr(self.estimator, name, None))]
        require(not missing, f"it has no {', '.join(missing)}: a learner has {', '.join(ESTIMATORS.methods)}")

    def fit_is_pure(self) -> None:
        before = self.rows.clone()
        with untouched("fit"):
            self.estimator.fit(self.rows, self._context())
        require(torch.equal(before, self.rows), "fit changes the rows that it is given: work on a copy")
        for name in ("sample", "state"):
            require(
                callable(getattr(self.model, name, None)), f"fit gives a {type(self.model).__name__} without {name}"
            )
        require(
            identical(self.model.state(), self._fit().state()),
            "two fits on the same rows and seed differ: draw everything random from context.seed",
        )

    def context(self) -> None:
        origin = torch.arange(self.n) % 3 - 1
        with tempfile.TemporaryDirectory(prefix="driftlaw-") as name:
            now, previous = Path(name) / "002", Path(name) / "001"
            for folder in (now, previous):
                folder.mkdir()
            later = self._fit(
                held_out=self.rows[:8].clone(),
                warm_start=self.model,
                generation=2,
                folder=now,
                previous=previous,
                origin=origin,
            )
        drawn = later.sample(self.n, self._stream("context"))
        require(bool(torch.isfinite(drawn).all()), "samples of a fit from a warm start are not finite")

    def checkpoint(self) -> None:
        kept = _Checkpoint()
        first = self._fit(checkpoint=kept)
        again = self._fit(checkpoint=kept)
        require(identical(first.state(), again.state()), "a fit that starts from its finished checkpoint differs")

    def samples(self) -> None:
        with untouched("sample"):
            a = self.model.sample(self.n, self._stream("samples"))
        require(isinstance(a, Tensor), f"sample gives a {type(a).__name__}, not a tensor")
        require(a.dtype == torch.float32, f"sample gives {a.dtype}, not float32")
        require(tuple(a.shape) == (self.n, *self.shape), f"sample({self.n}) gives {list(a.shape)}")
        require(bool(torch.isfinite(a).all()), "samples are not finite")
        b = self.model.sample(self.n, self._stream("samples"))
        require(torch.equal(a, b), "two samples from equal generators differ: draw from the generator alone")
        require(tuple(self.model.sample(1, self._stream("one")).shape) == (1, *self.shape), "sample(1) gives no row")

    def state(self) -> None:
        state = self.model.state()
        require(isinstance(state, dict), "state() gives no dict")
        require(all(isinstance(v, Tensor) for v in state.values()), "state() holds something that is no tensor")
        loaded = load(save({k: v.contiguous() for k, v in state.items()}))
        again = self.estimator.load(loaded, self.shape)
        a, b = (m.sample(self.n, self._stream("state")) for m in (self.model, again))
        require(torch.equal(a, b), "what load(state()) gives has other samples")

    def settings(self) -> None:
        if isinstance(self.estimator, CallableEstimator):
            return  # it names a function, which need not be importable
        check_config(self.estimator, ESTIMATORS)

    def score(self) -> None:
        try:
            value = self.model.score(self.rows, 0.5)
        except (AttributeError, NotImplementedError, DriftlawError):
            return  # there is none
        require(value.shape == self.rows.shape, f"score gives {list(value.shape)} at points {list(self.rows.shape)}")
        require(bool(torch.isfinite(value).all()), "the score is not finite at t = 0.5")
        self._by_rows("score", lambda x, t: self.model.score(x, t), value)
        times = torch.full((self.n,), 0.5)
        each = self.model.score(self.rows, times)
        require(torch.allclose(each, value, rtol=1e-3, atol=1e-4), "score with one time for each row differs")

    def log_prob(self) -> None:
        try:
            value = self.model.log_prob(self.rows)
        except (AttributeError, NotImplementedError, DriftlawError):
            return
        require(tuple(value.shape) == (self.n,), f"log_prob gives {list(value.shape)}, one number a row was expected")
        require(not bool((value.isnan() | (value == torch.inf)).any()), "log_prob is NaN or +inf")
        self._by_rows("log_prob", lambda x, t: self.model.log_prob(x), value)
        drawn = self.model.log_prob(self.model.sample(self.n, self._stream("log_prob")))
        require(bool(torch.isfinite(drawn).all()), "log_prob is not finite at the model's own samples")

    def _by_rows(self, name: str, function: Any, value: Tensor) -> None:
        part = function(self.rows[:5], 0.5)
        require(torch.allclose(part, value[:5], rtol=1e-3, atol=1e-4), f"{name} of a row depends on the other rows")
