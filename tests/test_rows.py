"""Rows that are not finite are counted and the first is named; blocks fit their budget."""

import math

import pytest
import torch

from driftlaw.errors import InputError
from driftlaw.numerics.memory import fitting
from driftlaw.numerics.rows import check_finite


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 1, 2, 2)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_named(shape, value):
    rows = torch.zeros(shape)
    check_finite(rows, "rows", "drop them")
    check_finite(rows[:0], "rows", "drop them")
    rows.view(6, -1)[3, -1] = rows.view(6, -1)[5, 0] = value
    with pytest.raises(InputError, match=r"2 of 6 rows of x are NaN or infinite, the first is row 13\. Drop them"):
        check_finite(rows, "rows of x", "drop them", first=10)


def test_blocks_fit():
    assert [fitting(size, 100) for size in (0, 1, 7, 100, 101, 10**9)] == [100, 100, 14, 1, 1, 1]
    assert fitting(50, 100, least=64) == 64
