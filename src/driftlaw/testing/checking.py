"""What all conformance checks share: failures are collected, and no global random state may move."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import yaml

from driftlaw.config import Kinds, shown
from driftlaw.errors import DriftlawError

#: A check raises AssertionError with a sentence, or whatever the object raises.
Check = Callable[[], None]


class ConformanceError(AssertionError):
    """What an object does not do as its contract says.

    Attributes:
        failures: one sentence each.
    """

    def __init__(self, what: str, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{what} fails {len(failures)} checks:\n" + "\n".join(f"- {f}" for f in failures))


def require(condition: bool, otherwise: str) -> None:
    """Fail a check, also where Python leaves ``assert`` out.

    Raises:
        AssertionError: with the sentence.
    """
    if not condition:
        raise AssertionError(otherwise)


def report(what: object, checks: Sequence[Check]) -> None:
    """Run all checks.

    Raises:
        ConformanceError: what failed.
    """
    failures = []
    for check in checks:
        try:
            check()
        except AssertionError as error:
            failures.append(str(error))
        except Exception as error:
            failures.append(f"{check.__name__.strip('_').replace('_', ' ')}: {type(error).__name__}: {error}")
    if failures:
        raise ConformanceError(f"{type(what).__module__}.{type(what).__qualname__}", failures)


@contextlib.contextmanager
def untouched(what: str) -> Iterator[None]:
    """Refuse a call that draws from, or seeds, a global random state, and put the state back."""

    def states() -> tuple[Any, ...]:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - it is what must not move
        return torch.get_rng_state().tolist(), (kind, np.asarray(keys).tolist(), *rest), random.getstate()

    before, kept = states(), (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    try:
        yield
        after = states()
    finally:  # what is being checked leaves no trace in its caller
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
    names = ("torch", "numpy", "random")
    moved = [name for name, a, b in zip(names, before, after, strict=True) if a != b]
    require(
        not moved, f"{what} uses the global random state of {', '.join(moved)}: draw from the generator it is given"
    )


def check_config(member: Any, kinds: Kinds, *, in_memory: bool = False) -> None:
    """Whether ``config()`` is plain data, and rebuilds the object or names no other class.

    Args:
        member: the object.
        kinds: of its family.
        in_memory: whether it may refuse, as a source of rows in memory does.
    """
    require(callable(getattr(member, "config", None)), "it has no config(): return {'kind': ..., settings}")
    try:
        config = member.config()
    except DriftlawError:
        require(in_memory, "config() raises: return {'kind': ..., settings}")
        return
    require(isinstance(config, dict), f"config() gives a {type(config).__name__}, not a dict")
    require("kind" in config, "config() has no 'kind'")
    try:
        again = yaml.safe_load(yaml.safe_dump(config))
        json.dumps(config, allow_nan=False)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise AssertionError(f"config() is not plain data ({error}): use numbers, text, lists, dicts") from None
    require(again == config, f"config() changes when it is written and read: {shown(config)} became {shown(again)}")
    if config["kind"] not in kinds:
        return  # an object without a kind of its own: its run is resumed with study=
    built = kinds.build(config)
    require(
        type(built) is type(member),
        f"config() says kind {config['kind']!r}, which builds a {type(built).__name__}, not a "
        f"{type(member).__name__}: give it a kind of its own (dl.register)",
    )
    require(built.config() == config, "what config() builds has another config()")


def identical(a: Any, b: Any) -> bool:
    """Whether two tensors, or mappings of them, are the same to the last bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.cpu(), b.cpu()))
