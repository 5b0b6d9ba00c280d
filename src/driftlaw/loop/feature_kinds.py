"""What a study may say of its feature space, checked before any file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftlaw.errors import ConfigError
from driftlaw.kinds import CLASSIFIERS
from driftlaw.learn.classifier import ConvClassifier
from driftlaw.measure.features import network_kinds

#: Feature spaces that need no network.
PLAIN = ("pca", "identity")


def validated(features: Any) -> str | dict[str, Any]:
    """The setting ``measures.features`` after a check that reads no file.

    Args:
        features: "pca", "identity", "classifier", a packaged network, a path, or a mapping with a ``kind``; see
            :func:`driftlaw.measure.features.network_kinds.describe` and
            :class:`driftlaw.learn.classifier.ConvClassifier`.

    Raises:
        ConfigError: unknown, with the nearest valid name.
    """
    if isinstance(features, Mapping):
        if features.get("kind") in CLASSIFIERS:
            CLASSIFIERS.build(features)
        else:
            network_kinds.describe(features, (*PLAIN, *CLASSIFIERS.names()))
        return {str(k): v for k, v in features.items()}
    if not isinstance(features, str):
        raise ConfigError(f"measures.features is a {type(features).__name__}", "give a name, a path or a mapping")
    if features not in (*PLAIN, *CLASSIFIERS.names()):
        network_kinds.describe(features, (*PLAIN, *CLASSIFIERS.names()))
    return features


def is_network(features: str | Mapping[str, Any]) -> bool:
    """Whether rows go through a network."""
    return not (isinstance(features, str) and features in PLAIN)


def classifier_of(features: str | Mapping[str, Any]) -> ConvClassifier | None:
    """The classifier that the run trains for these features, if it trains one."""
    kind = features if isinstance(features, str) else features.get("kind")
    return CLASSIFIERS.build(features) if kind in CLASSIFIERS else None
