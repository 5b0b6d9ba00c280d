"""What one law is simulated to."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Simulated(NamedTuple):
    """A closed form and its simulation.

    Args:
        name: what the law says.
        formula: in symbols.
        source: the paper on the topic.
        expected: value of the formula.
        values: independent repetitions of what has this expectation.
        side: whether the formula is the expectation or bounds it from above.
    """

    name: str
    formula: str
    source: str
    expected: float
    values: NDArray[np.float64]
    side: Literal["identity", "upper"] = "identity"
