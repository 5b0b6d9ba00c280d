"""Class histogram and entropy of unlabelled samples, through a small classifier trained on real rows.

The classifier is logistic regression (or k nearest neighbours) on real training features; its accuracy on held-out real
rows is reported beside every histogram. Shares are of *predicted* classes: E share_c = sum_b P(predict c | b) share_b.
The confusion P(predict c | b) is not corrected for, since generated rows need not be confused as real ones are. Compare
with the same histogram of held-out real rows, which carries the same error. The distance of the two histograms p and r
is sum_c (p_c - r_c)^2 / q_c, with q the shares among the rows that trained the classifier: the chi-square divergence of
the histograms where r = q, estimated without bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.estimate import Estimate
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.sets import moments, twosample
from driftlaw.seeding import stream_seed


@dataclass(frozen=True, eq=False)
class ClassModel:
    """A classifier of feature rows with its held-out accuracy.

    Args:
        features: map from rows to features.
        classes: class names; label c means ``classes[c]``.
        accuracy: share of held-out real rows that it labels correctly (Wilson interval).
        model: the fitted scikit-learn classifier.
        shares: ``[C]`` shares of predicted classes among its training rows, each at least half a row.
    """

    features: FeatureMap
    classes: tuple[str, ...]
    accuracy: Estimate
    model: Any
    shares: Tensor

    @classmethod
    def fit(
        cls,
        features: FeatureMap,
        train: Tensor,
        labels: Tensor,
        held_out: Tensor,
        held_out_labels: Tensor,
        classes: Sequence[str] | None = None,
        *,
        kind: Literal["logistic", "knn"] | str = "logistic",
        seed: int = 0,
    ) -> ClassModel:
        """Train on real training rows, measure on held-out real rows.

        Args:
            features: map from rows to features.
            train: ``[n, ...]`` real training rows.
            labels: ``[n]`` integers 0..C-1.
            held_out: ``[m, ...]`` real rows not in `train`.
            held_out_labels: ``[m]`` integers 0..C-1.
            classes: C names; "0", "1", ... if not given.
            kind: "logistic" or "knn" (5 neighbours).
            seed: seed of the solver.

        Raises:
            InputError: unknown kind, labels that do not fit the rows or the names, or one class only.
        """
        if kind not in ("logistic", "knn"):
            raise InputError(f"unknown classifier {kind!r}", nearest(str(kind), ("logistic", "knn")))
        y, y_held_out = _labels(labels, train, "labels"), _labels(held_out_labels, held_out, "held_out_labels")
        top = int(max(y.max(), y_held_out.max()))
        names = tuple(classes) if classes is not None else tuple(str(c) for c in range(top + 1))
        if top >= len(names):
            raise InputError(f"label {top} has no name: {len(names)} classes were given", "name every class")
        if bool((y == y[0]).all()):
            raise InputError("the labels of the real training rows name one class only", "leave labels out")
        phi = features(train).numpy()
        model = _classifier(str(kind), seed).fit(phi, y.numpy())
        counts = moments.class_counts(torch.from_numpy(model.predict(phi)).long(), len(names)) + 0.5
        right = int((torch.from_numpy(model.predict(features(held_out).numpy())) == y_held_out).sum())
        method = f"accuracy of the {kind} classifier on held-out real rows"
        accuracy = moments.proportion(right, len(y_held_out), method)
        return cls(features, names, accuracy, model, counts.double() / counts.sum())

    def predict(self, x: Tensor) -> Tensor:
        """Predicted labels, ``[n]`` int64."""
        return self.predict_features(self.features(x))

    def predict_features(self, phi: Tensor) -> Tensor:
        """Predicted labels of rows whose features ``[n, k]`` are known."""
        return torch.from_numpy(self.model.predict(phi.numpy())).long()

    def histogram_distance(self, labels: Tensor, reference: Tensor) -> Estimate:
        """sum_c (p_c - r_c)^2 / q_c between two sets of predicted labels, ``[n]`` each; unbiased.

        Raises:
            InputError: unequal sizes, or fewer than 4 labels.
        """
        weight = self.shares.rsqrt()
        one_hot = [torch.nn.functional.one_hot(y, len(self.classes)).double() * weight for y in (labels, reference)]
        method = "chi-square of predicted class histograms, U-statistic, score interval"
        return replace(twosample.chi2_lower(*one_hot), method=method).warn(self._caveat)

    def class_histogram(self, x: Tensor) -> dict[str, Estimate]:
        """Share of each predicted class among the rows of `x`, by class name; classifier error is not corrected."""
        shares = moments.histogram(self.predict(x), self.classes)
        return {name: share.warn(self._caveat) for name, share in shares.items()}

    def entropy(self, x: Tensor) -> Estimate:
        """Entropy of the predicted classes in nats; classifier error is not corrected."""
        return moments.entropy(moments.class_counts(self.predict(x), len(self.classes))).warn(self._caveat)

    def summary(self, labels: Tensor) -> dict[str, Estimate]:
        """Shares of predicted labels ``[n]`` by class name, and their "entropy" in nats."""
        found = {**moments.histogram(labels, self.classes)}
        found["entropy"] = moments.entropy(moments.class_counts(labels, len(self.classes)))
        return {name: e.warn(self._caveat) for name, e in found.items()}

    @property
    def _caveat(self) -> str:
        return f"predicted classes, accuracy on held-out real rows {self.accuracy}; classifier error is not corrected"


def _labels(labels: Tensor, rows: Tensor, name: str) -> Tensor:
    y = torch.as_tensor(labels)
    if y.shape != rows.shape[:1]:
        raise InputError(f"{name} has shape {tuple(y.shape)} for {rows.shape[0]} rows", "one integer label per row")
    if y.is_floating_point() or bool((y < 0).any()):
        raise InputError(f"{name} must be integers 0..C-1", "number the classes from 0")
    return y.long()


def _classifier(kind: str, seed: int) -> Any:
    if kind == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(n_neighbors=5)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=stream_seed(seed, "classifier") % 2**32)
