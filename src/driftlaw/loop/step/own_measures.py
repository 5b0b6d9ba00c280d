"""Measures of one's own: ``fn(samples, real, context) -> float | Estimate`` beside the built-in ones.

They stand in `divergence` of each record under their name, and in `floor` for real against real rows at the same n. A
function is written to YAML as ``{"function": "module:name"}``, which only a trusted file may name; an object with
``measure`` and ``config`` whose class is registered (:func:`driftlaw.register`) by its kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from driftlaw.config import importable, imported, named, shown
from driftlaw.data.source import Batch
from driftlaw.errors import ConfigError, InputError
from driftlaw.estimate import Estimate
from driftlaw.kinds import MEASURES
from driftlaw.learn.estimator import Model

#: Names of numbers that records have already.
TAKEN = frozenset(
    {
        *("kl", "kl_reverse", "tv", "hellinger2", "chi2", "chi2_mix", "chi2_lower", "mmd2", "kid", "frechet"),
        *("precision", "recall", "density", "coverage", "energy", "generation", "alpha", "real", "samples", "seed"),
    }
)


@dataclass(frozen=True)
class MeasureContext:
    """What a measure of one's own may use besides the rows.

    Args:
        generation: index of the model that is measured; 0 for the floor, where real rows stand for its samples.
        generator: named random stream of this generation and measure; use no other randomness.
        model: p_hat of this generation; None for the floor.
    """

    generation: int
    generator: torch.Generator
    model: Model | None = None


def validated(own: Any) -> dict[str, Any]:
    """Measures by name, built.

    Args:
        own: name to function, object with ``measure``, ``{"function": "module:name"}`` or a mapping with a ``kind``.

    Raises:
        ConfigError: a name that is taken or is none, or something that does not measure.
    """
    if not isinstance(own, Mapping):
        raise ConfigError(f"measures.own is a {type(own).__name__}", 'write measures={"mine": function}')
    found = {}
    for name, value in own.items():
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier() or name in TAKEN:
            taken = f"; {name} is a number that records have already" if name in TAKEN else ""
            raise ConfigError(f"{shown(name)} cannot name a measure of your own{taken}", "take letters, digits and _")
        if isinstance(value, Mapping) and set(value) == {"function"}:
            value = imported(value["function"], f"the measure {name!r}")
        elif isinstance(value, Mapping | str):
            value = MEASURES.build(value)
        if not callable(value) and not MEASURES.accepts(value):
            raise ConfigError(
                f"the measure {name!r} is a {type(value).__name__}", "give a function fn(samples, real, context)"
            )
        found[name] = value
    return found


def described(own: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data that :func:`validated` inverts where the functions can be imported."""
    return {name: MEASURES.describe(m) if MEASURES.accepts(m) else {"function": named(m)} for name, m in own.items()}


def not_rebuilt(own: Mapping[str, Any]) -> dict[str, str]:
    """Measures that their description does not give back, with the name of their function or class."""
    found = {}
    for name, measure in own.items():
        try:
            alike = (
                type(MEASURES.build(MEASURES.describe(measure))) is type(measure)
                if MEASURES.accepts(measure)
                else importable(measure, f"the measure {name!r}")
            )
        except ConfigError:
            alike = False
        if not alike:
            found[f"measures.{name}"] = named(measure).replace(":", ".")
    return found


class Run(Protocol):
    """What own measures ask of a run; :class:`driftlaw.loop.step.setting.Setting` has it."""

    @property
    def study(self) -> Any:
        """The study that is run."""

    @property
    def held_out(self) -> Batch | None:
        """Real rows that no model trains on."""

    def stream(self, *path: int | str) -> torch.Generator:
        """Named random stream."""


def compare(run: Run, index: int, rows: Tensor, model: Model | None = None) -> dict[str, Estimate]:
    """All measures of one's own of generation `index`, on as many rows as there are held-out ones.

    Raises:
        ConfigError: no held-out rows to compare with.
        InputError: a measure failed or returned no number; names it.
    """
    found = {}
    for name, measure in run.study.measures.own.items():
        if run.held_out is None:
            raise ConfigError(
                f"the measure {name!r} has no real rows to compare with",
                "set samples and measures.samples to 24 or more, and leave as many held-out rows",
            )
        real = run.held_out.x
        context = MeasureContext(index, run.stream("generation", index, "own measure", name), model)
        found[name] = evaluate(name, measure, rows[: len(real)], real[: len(rows)], context)
    return found


def evaluate(name: str, measure: Any, samples: Tensor, real: Tensor, context: MeasureContext) -> Estimate:
    """Ask a measure of one's own; a plain number becomes an estimate that says that it has no interval.

    Args:
        name: of the measure.
        measure: function, or object with ``measure``.
        samples: ``[n, ...]`` rows of the model.
        real: ``[n, ...]`` held-out real rows, as many.
        context: of the generation.

    Raises:
        InputError: it failed, or returned something else than a finite number or an Estimate; names it.
    """
    function: Callable[..., Any] = measure.measure if MEASURES.accepts(measure) else measure
    where = f"the measure {name!r} (generation {context.generation})" if context.generation else f"the measure {name!r}"
    try:
        found = function(samples.clone(), real.clone(), context)
    except Exception as error:
        raise InputError(
            f"{where} failed: {type(error).__name__}: {error}", f"correct {named(measure).replace(':', '.')}"
        ) from error
    if isinstance(found, Estimate):
        return found
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if hasattr(found, "item") and getattr(found, "ndim", 1) == 0:
        found = found.item()
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InputError(f"{where} returned a {type(found).__name__}", "return a number or a driftlaw.Estimate")
    if not math.isfinite(found):
        raise InputError(
            f"{where} returned {found}",
            "return a finite number, or Estimate.infinite(method, why) or Estimate.refused(method, why)",
        )
    return Estimate.without_interval(found, n=len(samples), method=f"{named(measure).partition(':')[2]}, your own")
