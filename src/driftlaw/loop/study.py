"""The study: a validated, frozen description of one recursion, the same in Python and in YAML.

Generation n trains on q_{n-1} = a_{n-1} p + sum_j w_{n-1,j} p_hat^j (theory section 4): the source is p, the policy
gives the rows (a, w), the estimator learns p_hat^n from `samples` rows of q_{n-1}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from driftlaw import files
from driftlaw.config import check_depth, shown
from driftlaw.data.registry import as_source
from driftlaw.errors import ConfigError, DriftlawError, nearest
from driftlaw.kinds import ESTIMATORS, FAMILIES, MEASURES, SELECTS
from driftlaw.loop import trust
from driftlaw.loop.feature_kinds import validated
from driftlaw.loop.own import own_parts, refuse
from driftlaw.loop.step import own_measures
from driftlaw.theory import annealing, refresh
from driftlaw.theory.adaptive import AdaptivePolicy
from driftlaw.theory.blocks import sizes
from driftlaw.theory.refresh import Policy


def _policy(value: Any) -> Policy | AdaptivePolicy:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return refresh.FixedFraction(float(value))
    return value if isinstance(value, AdaptivePolicy) else refresh.build(value)


def _select(value: Any) -> Any:
    return None if value is None else SELECTS.build(value)


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _readable(error, type(self)) from error
        except OverflowError as error:
            raise ConfigError(f"a number of the {type(self).__name__} is too large ({error})") from error


class Measures(_Config):
    """What is measured after each generation.

    Args:
        samples: rows of each set in sample-based measures (at most the held-out rows of a finite source); 0 skips them.
        density_samples: Monte Carlo draws from each law where densities are known.
        features: feature map of sample-based measures: "pca", "identity", "classifier" (trained by the run on labelled
            rows), "efficientnet-lite0", the path of an ONNX or TorchScript file, or a mapping with a ``kind``.
        dimension: number of features kept.
        path_samples: draws of each path energy where scores are exact; 0 skips path measures.
        t0: early-stopping time of path measures (the learner's own t0 where it has one above 0), OU clock.
        T: horizon of path measures.
        target_se: relative standard error of the energies to reach; None takes what `path_samples` give.
        critic: how the gradient part G^2 of the score error is looked for where no exact score is known: "polynomial",
            "fourier" or "neural", each with the ones before it.
        own: measures of one's own by name, ``fn(samples, real, context) -> float | Estimate``; see
            :mod:`driftlaw.loop.step.own_measures`. ``measures={"mine": fn}`` of a study is short for
            ``Measures(own={"mine": fn})``.
        critic_rows: rows of the training law that no model has seen, on which the critic is fitted and judged (fewer if
            the held-out real rows do not suffice); 0 skips it.
    """

    samples: int = Field(1000, ge=0)
    density_samples: int = Field(10_000, ge=100)
    features: Annotated[str | dict[str, Any], BeforeValidator(validated)] = "pca"
    dimension: int = Field(32, ge=1)
    path_samples: int = Field(2048, ge=0)
    t0: float = Field(0.02, gt=0)
    T: float = Field(4.0, gt=0)
    target_se: float | None = Field(None, gt=0)
    critic: Literal["polynomial", "fourier", "neural"] = "polynomial"
    critic_rows: int = Field(1000, ge=0)
    own: Annotated[dict[str, Any], BeforeValidator(own_measures.validated)] = Field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """Plain data; without `own` where there is none, as files of older versions have it."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "own"}
        return values | ({"own": own_measures.described(self.own)} if self.own else {})


def _measures(value: Any) -> Any:
    """Settings and own functions in one mapping, told apart."""
    if not isinstance(value, Mapping):
        return value
    own = {k: v for k, v in value.items() if k not in Measures.model_fields and (callable(v) or MEASURES.accepts(v))}
    rest = {k: v for k, v in value.items() if k not in own}
    return rest | ({"own": {**(rest.get("own") or {}), **own}} if own else {})


class Study(_Config):
    """One recursion: source, estimator, refresh policy and size.

    Args:
        source: the target p: a ``GaussianMixture`` or other law, a ``DataSource``, an array, or the name of a data set.
        estimator: the learner.
        policy: the refresh policy; a number alpha means ``FixedFraction(alpha)``.
        samples: rows n of each training set (of each block for a policy that keeps blocks): a number, a list with one
            for each generation, a rule ``{"kind": "growing", "start": 1000, "factor": 1.5}``, or a function of the
            generation 1, 2, ... Model j stores as many rows as generation j + 1 learns.
        generations: how many models are trained in turn.
        seed: all randomness derives from it.
        mixing: "stratified" rounds the policy's row to counts; "multinomial" draws the counts, so that the training
            set is an independent sample of q.
        reuse: when a finite source has no unused fresh rows left, draw again in a new order (True) or stop (False).
        device: "auto", "cpu" or "cuda".
        threads: CPU threads while the study runs, as its manifest says; None takes one for a small network (an MLP of
            width 512 at most), which is about as fast and does not slow down when the machine is busy, else torch's
            own number.
        measures: what is measured after each generation.
        select: which of a model's samples the next one may train on (``dl.Select``); None takes them as they come.
        t0: early-stopping time by generation, ``{"kind": "annealed", "start": 0.05}`` or a list; None leaves it to the
            estimator.
        name: shown in reports.

    Raises:
        ConfigError: an unknown key (with the nearest valid one) or a value out of range.

    Example:
        >>> import driftlaw as dl
        >>> study = dl.Study(source=dl.GaussianMixture.paper(), estimator=dl.KDE(0.6), policy=0.5, samples=500)
        >>> study.generations
        5
    """

    source: Annotated[Any, BeforeValidator(as_source)]
    estimator: Annotated[Any, BeforeValidator(ESTIMATORS.build)]
    policy: Annotated[Any, BeforeValidator(_policy)]
    samples: Annotated[Any, BeforeValidator(sizes.rule)] = 1000
    generations: int = Field(5, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**63)
    mixing: Literal["stratified", "multinomial"] = "stratified"
    reuse: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    measures: Annotated[Measures, BeforeValidator(_measures)] = Field(default_factory=Measures)
    select: Annotated[Any, BeforeValidator(_select)] = None
    t0: Annotated[Any, BeforeValidator(annealing.build)] = None
    name: str = ""

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        if not isinstance(self.policy, AdaptivePolicy):
            refresh.check_rows(*self.policy.rows(self.generations))
        if isinstance(self.samples, tuple) and len(self.samples) < self.generations:
            raise ConfigError(
                f"samples lists {len(self.samples)} sizes for {self.generations} generations", "give one for each"
            )
        for k in range(1, self.generations + 2):
            sizes.size(self.samples, k)
        if self.t0 is not None:
            for time in set(self.t0.times(self.generations)):
                annealing.stopped_at(self.estimator, time)
        return self

    def learner(self, index: int) -> Any:
        """The estimator of generation `index`, with its own t0 where the study has a schedule."""
        return self.estimator if self.t0 is None else annealing.stopped_at(self.estimator, self.times[index - 1])

    @cached_property
    def times(self) -> tuple[float, ...]:
        """t0 of generations 1..N; empty without a schedule."""
        return () if self.t0 is None else self.t0.times(self.generations)

    def size(self, k: int) -> int:
        """Rows of generation k's training set, or of its block where blocks are kept."""
        return sizes.size(self.samples, k)

    def rows_in_words(self) -> str:
        """The number of rows, or the first and the last of several."""
        first, last = self.size(1), self.size(self.generations)
        return str(first) if isinstance(self.samples, int) else f"{first} to {last}"

    def config(self) -> dict[str, Any]:
        """Plain data that :meth:`from_config` inverts.

        Raises:
            ConfigError: a part that cannot be written, such as an array in memory or an own estimator without config.
        """
        values: dict[str, Any] = {"name": self.name or self.source.name}
        for part, kinds in FAMILIES.items():
            values[part] = kinds.describe(getattr(self, part))
        for key in ("samples", "generations", "seed", "mixing", "reuse", "device", "threads"):
            values[key] = getattr(self, key)
        values["samples"] = sizes.described(self.samples)
        if self.select is not None:
            values["select"] = SELECTS.describe(self.select)
        if self.t0 is not None:
            values["t0"] = self.t0.config()
        return values | {"measures": self.measures.config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Study:
        """Build a study from plain data."""
        if not isinstance(config, Mapping):
            raise ConfigError(f"a study is a mapping of keys, got {type(config).__name__}")
        check_depth(config)
        return cls(**{str(k): v for k, v in config.items()})

    def is_described_by(self, config: Mapping[str, Any]) -> bool:
        """Whether plain data, perhaps of an older version that lacks newer keys, describe this study."""
        if self.config() == config:
            return True
        if trust.code(config) != trust.code(self.config()) or trust.data(config) != trust.data(self.config()):
            return False  # nothing is built from a stranger's names
        try:
            return _plain(type(self).from_config(config)) == _plain(self)
        except ConfigError:  # a part of its own maker, which only its maker can build
            return False

    def to_yaml(self) -> str:
        """The resolved study as YAML."""
        return yaml.safe_dump(self.config(), sort_keys=False)

    def with_settings(self, settings: Mapping[str, Any]) -> Study:
        """A copy with dotted keys replaced, as ``--set estimator.bandwidth=0.4`` does.

        Parts that no key names stay the objects that they are.

        Raises:
            ConfigError: an unknown key, with the nearest valid one, or a setting of a part of one's own that its
                configuration does not rebuild.
        """
        given = {key.partition(".")[0] for key in settings}
        whole = {key for key in settings if "." not in key}
        refuse({k: v for k, v in own_parts(self).items() if k in given - whole}, "a changed setting")
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        named = [name for name in FAMILIES if name in given - whole]
        plain = {name: FAMILIES[name].describe(values[name]) for name in named}
        if "select" in given - whole and self.select is not None:
            plain["select"] = SELECTS.describe(self.select)
        config = values | {"measures": self.measures.config() | {"own": dict(self.measures.own)}} | plain
        for key, value in settings.items():
            apply_setting(config, key, value)
        return type(self).from_config(config)


def _plain(study: Study) -> dict[str, Any]:
    """Plain data that two studies share if they do the same: a learner may say so itself, by ``known_by()``."""
    known_by = getattr(study.estimator, "known_by", None)
    return study.config() if known_by is None else {**study.config(), "estimator": known_by()}


def apply_setting(config: dict[str, Any], key: str, value: Any) -> None:
    """Replace one dotted key in plain data, in place.

    A mapping given for ``source``, ``estimator`` or ``policy``, or a new ``kind``, replaces the whole part.

    Raises:
        ConfigError: the key is not there.
    """
    *parents, last = key.split(".")
    node: Any = config
    for depth, part in enumerate(parents):
        if not isinstance(node, dict) or part not in node:
            _unknown(".".join(parents[: depth + 1]), node)
        node = node[part]
    if not isinstance(node, dict) or last not in node:
        if not (parents == [] and last in Study.model_fields) and not (isinstance(node, dict) and "kind" in node):
            _unknown(key, node)
        node[last] = value  # optional keys of a part are checked by its own validation
    elif last == "kind" and node["kind"] != value:
        node.clear()
        node["kind"] = value
    else:
        node[last] = value


def _unknown(key: str, node: Any) -> None:
    valid = list(node) if isinstance(node, dict) else []
    raise ConfigError(f"unknown key {key!r}", nearest(key.split(".")[-1], valid) if valid else "it has no keys inside")


def read_yaml(path: str | os.PathLike[str], *, trusted: bool = False) -> dict[str, Any]:
    """Plain data of a YAML file.

    Args:
        path: of the file.
        trusted: whether code that it names may run.

    Raises:
        ConfigError: missing, unreadable or not a mapping.
        TrustError: it names code and is not trusted.
    """
    try:
        text = files.read_bytes(Path(path)).decode()
        config = yaml.safe_load(text)
    except (OSError, ValueError, DriftlawError) as error:
        raise ConfigError(
            f"cannot read the study {path} ({error})", "give a YAML file or the name of a study"
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())})", "correct it there") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds a {type(config).__name__}, not a mapping of study keys")
    trust.check(config, path, trust=trusted, signature=trust.signature_in(text), reads=False)
    return config


def _readable(error: ValidationError, model: type[BaseModel]) -> DriftlawError:
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[
        0
    ]  # a misspelt key explains a missing one
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, DriftlawError):
        return cause
    where = ".".join(str(p) for p in first["loc"]) or model.__name__
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return ConfigError(f"unknown key {where!r}{more}", nearest(where.split(".")[-1], model.model_fields))
    if first["type"] == "missing":
        return ConfigError(f"{where} is missing{more}", f"a {model.__name__} needs it")
    return ConfigError(f"{where} = {shown(first['input'])} is not valid: {first['msg']}{more}")
