"""The families of parts and their built-in kinds; nothing is imported before a kind is used.

``ESTIMATORS.register("my-net", MyNet)`` makes an own kind known to YAML and the command line of this process.
"""

from __future__ import annotations

from driftlaw.config import Kinds

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
)
ESTIMATORS = Kinds(
    "estimator",
    {
        "kde": "driftlaw.learn.kde:KDE",
        "gaussian": "driftlaw.learn.gaussian:GaussianMLE",
        "mixture-em": "driftlaw.learn.mixture_em:MixtureEM",
        "denoiser": "driftlaw.learn.denoiser.learner:Denoiser",
        "command": "driftlaw.learn.command:Command",
        "callable": "driftlaw.learn.function:CallableEstimator",
    },
    methods=("fit", "load", "config"),
)
POLICIES = Kinds(
    "policy",
    {
        "replace": "driftlaw.theory.refresh:Replace",
        "fixed": "driftlaw.theory.refresh:FixedFraction",
        "schedule": "driftlaw.theory.refresh:Schedule",
        "accumulate": "driftlaw.theory.refresh:Accumulate",
        "accumulate-subsample": "driftlaw.theory.refresh:AccumulateSubsample",
        "window": "driftlaw.theory.refresh:Window",
        "adaptive": "driftlaw.theory.adaptive:Adaptive",
    },
    methods=("rows",),
)
CLASSIFIERS = Kinds("features", {"classifier": "driftlaw.learn.classifier:ConvClassifier"})
#: Families of which a user can have an own kind, by name.
FAMILIES = {kinds.family: kinds for kinds in (SOURCES, ESTIMATORS, POLICIES)}
