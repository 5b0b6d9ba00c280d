"""The families of parts and their built-in kinds; nothing is imported before a kind is used.

:func:`register` makes an own kind known to YAML in this process; the entry-point groups ``driftlaw.estimators``,
``driftlaw.policies``, ``driftlaw.sources`` and ``driftlaw.measures`` of an installed package make it known to the
command line as well.
"""

from __future__ import annotations

import inspect
from typing import Any

from driftlaw.config import Kinds, shown
from driftlaw.errors import ConfigError

SOURCES = Kinds(
    "source",
    {
        "gmm": "driftlaw.data.builtin:gmm",
        "digits": "driftlaw.data.builtin:digits",
        "fashion-mnist": "driftlaw.data.builtin:fashion_mnist",
        "cifar10": "driftlaw.data.builtin:cifar10",
        "array": "driftlaw.data.arrays:ArraySource.from_file",
        "images": "driftlaw.data.images:ImageFolder",
    },
    methods=("draw", "rows", "held_out", "config"),
    group="driftlaw.sources",
)
ESTIMATORS = Kinds(
    "estimator",
    {
        "kde": "driftlaw.learn.kde:KDE",
        "gaussian": "driftlaw.learn.gaussian:GaussianMLE",
        "mixture-em": "driftlaw.learn.mixture_em:MixtureEM",
        "denoiser": "driftlaw.learn.denoiser.learner:Denoiser",
        "flow": "driftlaw.learn.flow.learner:FlowMatching",
        "discrete": "driftlaw.learn.discrete.learner:DiscreteDiffusion",
        "guided": "driftlaw.learn.guided.learner:Guided",
        "command": "driftlaw.learn.command:Command",
        "callable": "driftlaw.learn.function:CallableEstimator",
    },
    methods=("fit", "load", "config"),
    group="driftlaw.estimators",
)
POLICIES = Kinds(
    "policy",
    {
        "replace": "driftlaw.theory.refresh:Replace",
        "fixed": "driftlaw.theory.refresh:FixedFraction",
        "schedule": "driftlaw.theory.refresh:Schedule",
        "accumulate": "driftlaw.theory.refresh:Accumulate",
        "accumulate-subsample": "driftlaw.theory.refresh:AccumulateSubsample",
        "fixed-real": "driftlaw.theory.refresh:FixedReal",
        "window": "driftlaw.theory.refresh:Window",
        "adaptive": "driftlaw.theory.adaptive:Adaptive",
    },
    methods=("rows",),
    group="driftlaw.policies",
)
SELECTS = Kinds("select", {"select": "driftlaw.learn.select.select:Select"}, methods=("choose", "chosen", "config"))
#: Measures of one's own; the built-in ones are settings of a study.
MEASURES = Kinds("measure", {}, methods=("measure", "config"), group="driftlaw.measures")
CLASSIFIERS = Kinds("features", {"classifier": "driftlaw.learn.classifier:ConvClassifier"})
#: Families of which a user can have an own kind, by name.
FAMILIES = {kinds.family: kinds for kinds in (SOURCES, ESTIMATORS, POLICIES)}


def register(kind: str, cls: type[Any]) -> None:
    """Make an own estimator, policy, source or measure a kind of its own, so that its configuration rebuilds it.

    Args:
        kind: the name in YAML; ``cls(...).config()["kind"]`` must be the same.
        cls: a class with ``fit`` (an estimator), ``draw`` (a source), ``rows`` (a policy) or ``measure``; its settings
            are its parameters.

    Raises:
        ConfigError: a class that is none of them, or a name that is taken or is no name.

    Example:
        >>> import driftlaw as dl
        >>> class Wide(dl.GaussianMLE):
        ...     kind = "wide-gaussian"
        >>> dl.register("wide-gaussian", Wide)
        >>> type(dl.Study(estimator="wide-gaussian").estimator).__name__
        'Wide'
    """
    for kinds in (ESTIMATORS, SOURCES, POLICIES, MEASURES):
        if inspect.isclass(cls) and kinds.accepts(cls):
            kinds.register(kind, cls)
            return
    needs = "; ".join(f"a {kinds.family} has {', '.join(kinds.methods)}" for kinds in FAMILIES.values())
    raise ConfigError(f"{shown(cls)} is no class of an estimator, policy or source", needs)
