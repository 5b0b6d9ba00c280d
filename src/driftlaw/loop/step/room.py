"""What a study needs of memory at least, found before anything is allocated.

For n training rows, m stored ones and dimension d: 8 n d + 8 m (d + 1) bytes for rows of float32 in two copies and an
order to draw them in; for m draws of exact densities 32 m d, for paths 32 m d (points, scores and their difference in
float64). What a learner needs is checked by the learner.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from driftlaw.system import memory

if TYPE_CHECKING:
    from driftlaw.loop.study import Study


def check(study: Study, exact: bool) -> None:
    """Refuse a study that cannot fit.

    Args:
        study: not yet prepared.
        exact: whether densities are known.

    Raises:
        LimitError: which setting takes how much.
    """
    d = math.prod(study.source.shape)
    sizes = [study.size(k) for k in range(1, study.generations + 1)]
    n, cap = max(sizes), getattr(study.policy, "cap", None)
    total = sum(sizes) if getattr(study.policy, "grows", False) else n
    total = min(total, cap) if isinstance(cap, int) else total
    rows = f"a training set of {total:,} rows of {d:,} numbers"
    memory.check(8 * total * d + 8 * n * (d + 1), rows, "lower samples")
    if exact:
        for name in ("density_samples", "path_samples"):
            draws = getattr(study.measures, name)
            memory.check(32 * draws * d, f"measures.{name} = {draws} in dimension {d}", f"lower {name}")
