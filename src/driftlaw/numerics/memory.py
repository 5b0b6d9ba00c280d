"""How much is held in memory at once: every pass over rows takes as many as fit one of these budgets, in bytes."""

from __future__ import annotations

#: What one pass holds for all its rows at once: densities and scores of exact laws, noised rows, compared rows.
PASS_BYTES = 1 << 28
#: One block of distances between rows.
PAIR_BYTES = 1 << 25
#: One chunk of rows on its way from a reader.
CHUNK_BYTES = 1 << 23
#: A block that is passed over several times and should stay in a core's cache.
CACHE_BYTES = 1 << 21


def fitting(row_bytes: int, budget: int = PASS_BYTES, least: int = 1) -> int:
    """How many rows fit a budget.

    Args:
        row_bytes: that one row needs.
        budget: bytes.
        least: rows that are taken in any case.

    Example:
        >>> fitting(8 * 1000, PAIR_BYTES)
        4194
    """
    return max(least, budget // max(1, row_bytes))
