"""What a test needs of a set: sizes, means, covariance, and how the rows of exchangeable blocks spread."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from driftlaw.measure.sketch.spread import BlockSpread

Array = NDArray[np.float64]


class Moments(Protocol):
    """What an audit needs of a sketch: sizes, mean and pooled covariance of its features."""

    @property
    def n(self) -> int:
        """Number of rows."""
        ...

    @property
    def mean(self) -> Array:
        """Mean of each feature, ``[k]``."""
        ...

    @property
    def covariance(self) -> Array:
        """Unbiased covariance of the features, ``[k, k]``."""
        ...


def spread_of(moments: Moments) -> BlockSpread | None:
    """Block scatter of a set; None where it was not kept, and then rows count as Gaussian."""
    found = getattr(moments, "spread", None)
    return found if isinstance(found, BlockSpread) and int((found.counts > 0).sum()) > 1 else None
