r"""Each class by itself, of samples that carry labels.

For class c with samples :math:`S_c` and held-out real rows :math:`R_c`: the shares of both among the labels, the drift
:math:`|E\phi(S_c) - E\phi(R_c)|^2` in the reference's feature coordinates, without bias (the U-statistic of
:func:`driftlaw.measure.sets.twosample.chi2_lower` gives it with an interval, in whitened coordinates), and the share of
:math:`S_c` that the run's classifier recognises as c, whose own errors are not corrected.
"""

from __future__ import annotations

from torch import Tensor

from driftlaw.estimate import Estimate
from driftlaw.measure.sets import moments, twosample
from driftlaw.measure.sets.reference import SampleReference

#: Rows of a class on both sides without which its drift is refused.
LEAST = 8


def by_class(
    reference: SampleReference, samples: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor
) -> dict[str, dict[str, Estimate]]:
    """Share, real share, drift and recognised share of every class, by its name.

    Args:
        reference: features and classifier of the run.
        samples: ``[n, ...]``.
        labels: ``[n]`` 0..C-1.
        real: ``[m, ...]`` held-out real rows.
        real_labels: ``[m]``.

    Returns:
        Empty where the reference has no classes.
    """
    model = reference.class_model
    if model is None:
        return {}
    phi, real_phi = reference.features.in_parts(samples), reference.features.in_parts(real)
    predicted = model.predict_features(phi)
    shares, real_shares = (moments.histogram(y, model.classes) for y in (labels, real_labels))
    found = {}
    for c, name in enumerate(model.classes):
        here, there = phi[labels == c], real_phi[real_labels == c]
        found[name] = {"share": shares[name], "real_share": real_shares[name], "drift": _drift(here, there)}
        if len(here):
            right = int((predicted[labels == c] == c).sum())
            found[name]["recognised"] = moments.proportion(right, len(here), "share that the classifier recognises")
    return found


def _drift(samples: Tensor, real: Tensor) -> Estimate:
    """Drift of the means of two sets of features, at equal numbers of rows."""
    n = min(len(samples), len(real))
    if n < LEAST:
        method = "squared distance of mean features"
        return Estimate.refused(method, f"{len(samples)} samples and {len(real)} real rows of the class", n)
    return twosample.chi2_lower(samples[:n], real[:n])
