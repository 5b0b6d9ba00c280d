"""A Python function as a learner: ``fit(rows, context) -> sampler``.

The function trains on the rows and returns a sampler, ``sampler(n, generator) -> rows``. driftlaw draws the rows that
the study needs at once and stores them: the model is known by its samples (:mod:`driftlaw.learn.drawn`), and a resumed
run has the same ones. A learner whose model can be stored and has a score is better written as an estimator with
``fit``, ``load`` and ``config``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.drawn import DrawnSamples, check_drawn, check_drawn_labels, load_rows
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.rows import check_rows

#: Draws n rows, or rows and their classes, with a torch.Generator.
Sampler = Callable[[int, torch.Generator], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CallableEstimator:
    """A function ``fit(rows [n, ...], context) -> sampler`` as the learner of a study.

    It must be a pure function of the rows and ``context.seed``; ``context.folder`` and ``context.previous`` are folders
    of this and the previous generation for files of its own, ``context.warm_start`` has the previous samples,
    ``context.origin`` and ``context.labels`` say where each row came from and of which class it is. A sampler that
    returns ``(rows, labels)`` gives samples their classes.

    Args:
        function: the function, or ``"module:name"`` of one that can be imported (needed in YAML and for `driftlaw
            resume`; a run with any other function is continued by ``dl.resume(path, study=study)``).

    Raises:
        ConfigError: not a function, or a name that cannot be imported.

    Example:
        >>> def bootstrap(rows, context):
        ...     return lambda n, g: rows[torch.randint(len(rows), (n,), generator=g)]
        >>> model = CallableEstimator(bootstrap).fit(torch.randn(20, 2), FitContext(seed=1, samples=5))
        >>> model.sample(5, torch.Generator()).shape
        torch.Size([5, 2])
    """

    #: A dry run does not call the function.
    probes: ClassVar[bool] = False

    function: Callable[[Tensor, FitContext], Sampler] | str

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            object.__setattr__(self, "function", imported(self.function))
        if not callable(self.function):
            raise ConfigError(
                f"CallableEstimator: a {type(self.function).__name__} is not a function", "give fit(rows, context)"
            )

    def __str__(self) -> str:
        return f"the function {self.config()['function']!r}"

    def fit(self, data: Tensor, context: FitContext = ALONE) -> DrawnSamples:
        """Call the function and draw ``context.samples`` rows (default: as many as it was given).

        Raises:
            InputError: unusable rows, or a sampler that does not return what was asked.
        """
        data = check_rows(data)
        sampler = self.function(data, context)  # type: ignore[operator]
        if not callable(sampler):
            raise InputError(f"{self} returned a {type(sampler).__name__}", "return a sampler, sampler(n, generator)")
        n = context.samples or len(data)
        drawn = sampler(n, seeding.generator(context.seed, "sampler"))
        rows, labels = drawn if isinstance(drawn, tuple) else (drawn, None)
        rows = check_drawn(rows, n, tuple(data.shape[1:]), str(self))
        if labels is not None:
            labels = check_drawn_labels(labels, n, len(context.classes or ()), str(self))
        return DrawnSamples(rows, str(self), labels)

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> DrawnSamples:
        """Restore the model from :meth:`DrawnSamples.state`."""
        return load_rows(state, shape, str(self))

    def config(self) -> dict[str, Any]:
        """Mapping with ``kind: callable`` and the name of the function."""
        module = getattr(self.function, "__module__", type(self.function).__module__)
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return {"kind": "callable", "function": f"{module}:{name}"}


def imported(name: str) -> Callable[..., Any]:
    """The function that ``"module:name"`` names."""
    module, _, attribute = name.partition(":")
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"the function {name!r} cannot be imported ({error})",
            "write module:name of an importable function, or continue this run with dl.resume(path, study=study)",
        ) from None
    function: Callable[..., Any] = value
    return function
