"""Tables of other libraries as tables of Arrow, through narwhals.

Optional libraries are recognised by their modules, never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
from narwhals.exceptions import NarwhalsError

from driftlaw.data.rows.arrays import is_array, native, to_numpy
from driftlaw.data.rows.tables import check_names
from driftlaw.errors import InputError


def module_of(data: Any) -> str:
    """Name of the library that an object comes from."""
    return type(data).__module__.partition(".")[0]


def is_frame(data: Any) -> bool:
    """Whether it is a frame of a library that narwhals knows, or looks like one of pandas."""
    try:
        nw.from_native(data)
    except (TypeError, NarwhalsError, ValueError):
        return hasattr(data, "columns") and hasattr(data, "iloc")
    return True


def as_arrow(data: Any, name: str) -> pa.Table:
    """A table of any library in memory as Arrow's.

    Raises:
        InputError: equal names, columns of different lengths or of mixed types.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        if isinstance(data, Mapping):
            return _columns(data, name)
        if module_of(data) == "pandas":
            return _pandas(data, name)
        frame = nw.from_native(data)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        check_names(list(frame.columns), name)
        return frame.to_arrow()
    except InputError:
        raise
    except (pa.ArrowException, NarwhalsError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as a table ({error})", "give every column one type") from None


def _pandas(data: Any, name: str) -> pa.Table:
    check_names([str(c) for c in data.columns], name)
    try:
        return pa.Table.from_pandas(data, preserve_index=False)
    except (pa.ArrowException, OverflowError):
        import pandas as pd

        mixed = {}
        for column in data.columns:
            if data[column].dtype == object:
                try:
                    pa.array(data[column], from_pandas=True)
                except (pa.ArrowException, OverflowError):
                    mixed[column] = [None if pd.isna(v) is True else str(v) for v in data[column]]
        return pa.Table.from_pandas(data.assign(**{str(k): v for k, v in mixed.items()}), preserve_index=False)


def _columns(data: Mapping[Any, Any], name: str) -> pa.Table:
    names = [str(key) for key in data]
    check_names(names, name)
    if not names:
        raise InputError(f"{name} has no columns", "choose at least one")
    arrays = [_array(values, f"column {key!r} of {name}") for key, values in data.items()]
    for key, array in zip(names, arrays, strict=True):
        if len(array) != len(arrays[0]):
            raise InputError(
                f"column {key!r} has {len(array)} rows, the first one {len(arrays[0])}", "give columns of one length"
            )
    return pa.table(arrays, names=names)


def _array(values: Any, where: str) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if module_of(values) in {"pandas", "polars"}:
        return values.to_arrow() if hasattr(values, "to_arrow") else pa.array(values, from_pandas=True)
    if is_array(values) or hasattr(values, "detach"):
        x = to_numpy(values)
        mask = np.ma.getmaskarray(x) if isinstance(x, np.ma.MaskedArray) else None
        x = np.asarray(x.data if mask is not None else x)
        x = x if x.dtype.kind in "mM" else native(x)
        if x.ndim == 0:
            raise InputError(f"{where} is a single value", "give one value a row")
        if x.ndim == 1:
            return _flat(x, mask, where)
        if mask is not None and mask.any():
            raise InputError(f"{where} holds lists with masked cells", "fill them")
        flat: pa.Array = pa.array(x.reshape(-1))
        for width in reversed(x.shape[1:]):
            flat = pa.FixedSizeListArray.from_arrays(flat, int(width))
        return flat
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise InputError(f"{where} is a {type(values).__name__}", "give one value a row")
    return _flat(list(values), None, where)


def _flat(values: Any, mask: Any, where: str) -> pa.Array:
    if not isinstance(values, np.ndarray):
        values = [v.tolist() if isinstance(v, np.ndarray) else v for v in values]
    try:
        return pa.array(values, mask=mask, from_pandas=True)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        import pandas as pd

        texts = [None if v is None or pd.isna(v) is True else v for v in values]
        if all(v is None or isinstance(v, str | int | float | bool | np.generic) for v in texts):
            return pa.array([None if v is None else str(v) for v in texts])
        raise InputError(f"{where} holds values of mixed types", "give numbers or text") from None
