r"""From raw rows to numeric columns, by a rule that is fitted once on real rows and recorded (this project).

Arrays and images are flattened; uint8 images become [-1, 1], the convention of every image in driftlaw. A table is
encoded column by column:

- numeric: (x - m) / s with the real mean and standard deviation; a missing value becomes 0, the real mean. Where the
  real rows have missing values, an indicator column follows.
- categorical: one 0/1 column for each category but the most frequent one, which all zeros stand for (with it the
  columns would sum to one and no covariance of them would have an inverse); rare categories beyond :data:`MOST` share
  "other". Missing values are all zeros, with an indicator where the real rows have some.

Missing values and values outside the recorded categories are counted always, whether or not the real rows had any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftlaw.errors import InputError, nearest

#: Most categories of one column that get a column of their own.
MOST = 32
#: Largest number in size: fourth powers of larger ones, which covariances of products need, overflow.
LARGEST = 1e75

Rows = Tensor | NDArray[Any] | Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Encoded:
    """One chunk after encoding.

    Args:
        columns: ``[n, d]``, finite.
        raw: ``[n, c]`` numeric values in their own units that are counted in cells; NaN is missing.
        codes: cell of each row in each categorical column, -1 where missing.
        missing: number of missing values by column, only columns with some.
        unseen: rows of each value outside the recorded categories, by categorical column; only columns with some.
        extent: lowest and highest number of an array.
    """

    columns: Tensor
    raw: NDArray[Any]
    codes: dict[str, NDArray[np.int64]]
    missing: dict[str, int]
    unseen: dict[str, dict[str, int]] = field(default_factory=dict)
    extent: tuple[float, float] | None = None


@dataclass(frozen=True)
class ArrayEncoder:
    """Rows of one shape.

    Args:
        shape: of a row, such as ``(256,)`` or ``(3, 32, 32)``.
    """

    shape: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the flattened columns."""
        if len(self.shape) <= 1:
            return tuple(f"x{i}" for i in range(self.shape[0] if self.shape else 1))
        return tuple("x[" + ",".join(map(str, index)) + "]" for index in np.ndindex(*self.shape))

    def rows(self, rows: Rows, first: int = 0) -> Tensor:
        """Checked rows in their shape, uint8 images as float32 in [-1, 1].

        Args:
            rows: ``[n, ...]``.
            first: number of the first row, for messages.

        Raises:
            InputError: not an array, another shape, or NaN or infinite cells.
        """
        if isinstance(rows, Mapping):
            raise InputError(
                "a table with named columns was given, the sketch is of arrays", "give arrays of the same shape"
            )
        x = torch.as_tensor(rows).detach().cpu()
        if x.ndim == 0 or tuple(x.shape[1:]) != self.shape:
            raise InputError(
                f"rows have shape {tuple(x.shape[1:])}, the sketch is of rows of shape {self.shape}",
                "bring all data to one shape first",
            )
        if x.dtype == torch.uint8 and x.ndim == 4:
            x = (x.float() - 127.5) / 127.5
        if x.dtype.is_complex or x.dtype in (torch.bool, torch.bfloat16):
            x = _real(x)
        return x

    def __call__(self, rows: Rows, first: int = 0) -> Encoded:
        """Encode a chunk; arguments as for :meth:`rows`."""
        x = self.rows(rows, first)
        flat = x.reshape(len(x), math.prod(self.shape))
        if not flat.is_floating_point() or flat.dtype in (torch.float16, torch.bfloat16):
            flat = flat.double()
        extent = None
        if flat.numel():
            low, high = torch.aminmax(flat)
            extent = float(low), float(high)
            if not (extent[0] >= -LARGEST and extent[1] <= LARGEST):
                _refuse(flat.numpy(), self.names, first)
        return Encoded(flat, flat.numpy(), {}, {}, extent=extent)

    def config(self) -> dict[str, Any]:
        """Description as JSON-ready data; :func:`build` inverts it."""
        return {"kind": "array", "shape": list(self.shape)}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: of the column.
        mean: of a numeric column, its units.
        scale: of a numeric column, its units; 1 for a constant one.
        categories: of a categorical column, the most frequent one first; None for a numeric column.
        other: whether real rows have categories beyond the recorded ones.
        missing: whether real rows have missing values.
        kind: what the reader recognised, such as "number", "date" or "text"; "" where it is not known.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    categories: tuple[str, ...] | None = None
    other: bool = False
    missing: bool = False
    kind: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        if self.categories is None:
            names = [self.name]
        else:
            names = [f"{self.name}={c}" for c in self.categories[1:]]
            names += [f"{self.name}=other"] * self.other
        return (*names, *([f"{self.name} missing"] * self.missing))


@dataclass(frozen=True)
class TableEncoder:
    """Named columns.

    Args:
        columns: in order.
    """

    columns: tuple[Column, ...]

    @classmethod
    def fit(
        cls,
        table: Mapping[str, NDArray[Any]],
        categorical: tuple[str, ...] = (),
        kinds: Mapping[str, str] | None = None,
    ) -> TableEncoder:
        """Record how to encode real rows.

        Args:
            table: arrays ``[n]`` by column name; text columns are categorical.
            categorical: numeric columns that are to be treated as categories.
            kinds: what the reader recognised in each column.

        Raises:
            InputError: no columns, a column in `categorical` that is not there, infinite numbers.
        """
        for name in categorical:
            if name not in table:
                raise InputError(f"there is no column {name!r}", nearest(name, table))
        if not table:
            raise InputError("the table has no columns", "choose at least one")
        known = kinds or {}
        return cls(
            tuple(
                replace(
                    _fit_text(name, values)
                    if name in categorical or is_text(values) or known.get(name) == "text"
                    else _fit_number(name, values),
                    kind=known.get(name, ""),
                )
                for name, values in table.items()
            )
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        return tuple(name for column in self.columns for name in column.names)

    def __call__(self, rows: Rows, first: int = 0) -> Encoded:
        """Encode a chunk.

        Args:
            rows: arrays ``[n]`` by column name, or a pandas DataFrame.
            first: number of the first row, for messages.

        Raises:
            InputError: not a table, columns missing or too many, text where numbers were, infinite cells.
        """
        table = as_table(rows)
        expected = [column.name for column in self.columns]
        for name in expected:
            if name not in table:
                raise InputError(f"the column {name!r} of the sketch is not in the data", nearest(name, table))
        if extra := [name for name in table if name not in expected]:
            raise InputError(
                f"{len(extra)} columns are not in the sketch: {', '.join(extra[:5])}{' ...' if extra[5:] else ''}",
                "choose the columns of the sketch",
            )
        raw: list[NDArray[np.float64]] = []
        codes: dict[str, NDArray[np.int64]] = {}
        encoded: list[NDArray[np.float64]] = []
        missing: dict[str, int] = {}
        unseen: dict[str, dict[str, int]] = {}
        for column in self.columns:
            if column.categories is None:
                x = _numbers(column.name, table[column.name], first)
                absent = np.isnan(x)
                raw.append(x)
                encoded.append(np.where(absent, 0.0, (x - column.mean) / column.scale))
            else:
                code, others = _codes(table[column.name], column.categories)
                codes[column.name], absent = code, code < 0
                if others:
                    unseen[column.name] = others
                last = len(column.categories) + column.other
                encoded += [(code == c).astype(np.float64) for c in range(1, last)]
            if column.missing:
                encoded.append(absent.astype(np.float64))
            if absent.any():
                missing[column.name] = int(absent.sum())
        n = len(next(iter(table.values())))
        columns = np.stack(encoded, axis=1) if encoded else np.zeros((n, 0))
        numbers = np.stack(raw, axis=1) if raw else np.zeros((n, 0))
        return Encoded(torch.from_numpy(columns), numbers, codes, missing, unseen)

    def config(self) -> dict[str, Any]:
        """Description as JSON-ready data; :func:`build` inverts it."""
        columns = [asdict(column) for column in self.columns]
        for column in columns:
            column["categories"] = None if column["categories"] is None else list(column["categories"])
            if not column["kind"]:
                del column["kind"]
        return {"kind": "table", "columns": columns}


Encoder = ArrayEncoder | TableEncoder


def build(config: Mapping[str, Any]) -> Encoder:
    """Build the encoder that ``config()`` describes."""
    if config["kind"] == "array":
        return ArrayEncoder(tuple(config["shape"]))
    if config["kind"] == "table":
        columns = [
            Column(**{**c, "categories": None if c["categories"] is None else tuple(c["categories"])})
            for c in config["columns"]
        ]
        return TableEncoder(tuple(columns))
    raise InputError(f"unknown encoder {config['kind']!r}", nearest(str(config["kind"]), ["array", "table"]))


def as_table(rows: Any) -> Mapping[str, NDArray[Any]]:
    """Columns by name of a mapping or a pandas DataFrame.

    Raises:
        InputError: an array.
    """
    if hasattr(rows, "columns") and hasattr(rows, "to_numpy"):
        return {str(name): rows[name].to_numpy() for name in rows.columns}
    if not isinstance(rows, Mapping):
        raise InputError("an array was given, the sketch is of a table with named columns", "give a table")
    return {str(name): np.asarray(values) for name, values in rows.items()}


def is_text(values: NDArray[Any]) -> bool:
    """Whether a column holds text."""
    if values.dtype.kind != "O":
        return values.dtype.kind not in "fiub"
    import pandas as pd

    return any(isinstance(v, str | bytes) for v in values[~pd.isna(values)][:1000])


def _numbers(name: str, values: NDArray[Any], first: int) -> NDArray[np.float64]:
    import pandas as pd

    if values.dtype.kind == "O":
        values = np.where(pd.isna(values), np.nan, values)
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"the column {name!r} holds text or objects and was numeric", "give numbers") from None
    infinite = np.abs(x) > LARGEST
    if infinite.any():
        word = "infinite" if np.isinf(x).any() else f"beyond {LARGEST:g}, where powers overflow"
        raise InputError(
            f"{int(infinite.sum())} cells of column {name!r} are {word}, "
            f"the first is row {first + int(infinite.argmax())}",
            "drop these rows or leave the cells empty",
        )
    return x


def _text(values: NDArray[Any]) -> NDArray[Any]:
    """Categories as text, None where missing; 3.0 and 3 are one category."""
    import pandas as pd

    absent = pd.isna(values)
    if values.dtype.kind == "O" and pd.api.types.infer_dtype(values, skipna=True) in {"string", "empty"}:
        return values
    out = np.empty(len(values), dtype=object)
    if values.dtype.kind == "f" and (values[~absent] == np.round(values[~absent])).all():
        out[~absent] = values[~absent].astype(np.int64).astype(str)
    else:
        out[~absent] = [str(v) for v in values[~absent]]
    return out


def _codes(values: NDArray[Any], categories: tuple[str, ...]) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Number of each category, that of all categories for any other, -1 where missing; and how often each other is."""
    import pandas as pd

    found, unique = pd.factorize(_text(values))
    number = {c: i for i, c in enumerate(categories)}
    codes = np.array([*(number.get(u, len(categories)) for u in unique), -1], dtype=np.int64)
    others = [i for i, u in enumerate(unique) if u not in number]
    counts = np.bincount(found[found >= 0], minlength=len(unique)) if others else ()
    return np.asarray(codes[found]), {str(unique[i]): int(counts[i]) for i in others}


def _fit_number(name: str, values: NDArray[Any]) -> Column:
    x = _numbers(name, values, 0)
    seen = x[~np.isnan(x)]
    scale = float(seen.std(ddof=1)) if len(seen) > 1 else 0.0
    return Column(name, float(seen.mean()) if len(seen) else 0.0, scale or 1.0, missing=len(seen) < len(x))


def _fit_text(name: str, values: NDArray[Any]) -> Column:
    text = _text(values)
    seen = np.array([t for t in text if t is not None], dtype=object).astype(str)
    unique, counts = np.unique(seen, return_counts=True)
    order = np.lexsort((unique, -counts))
    kept = tuple(str(c) for c in unique[order][:MOST])
    return Column(name, categories=kept, other=len(unique) > MOST, missing=len(seen) < len(text))


def _real(x: Tensor) -> Tensor:
    if x.dtype.is_complex:
        raise InputError(f"rows have dtype {x.dtype}", "use real numbers")
    return x.double()


def _refuse(flat: NDArray[Any], names: tuple[str, ...], first: int) -> None:
    """Raise for NaN, infinite or too large cells: how many, in how many rows, and where the first is."""
    bad = ~np.isfinite(flat)
    if not bad.any():
        row, column = (int(i) for i in np.argwhere(np.abs(flat) > LARGEST)[0])
        raise InputError(
            f"row {first + row}, column {names[column]} is {flat[row, column]:g}: powers of such numbers overflow",
            f"bring all numbers below {LARGEST:g} in size",
        )
    row, column = (int(i) for i in np.argwhere(bad)[0])
    raise InputError(
        f"{int(bad.sum())} cells in {int(bad.any(axis=1).sum())} of the rows {first} to {first + len(flat) - 1} are "
        f"NaN or infinite, the first is row {first + row}, column {names[column]}",
        "drop these rows or find what made them",
    )
