"""Columns of the tables as people give them: of the shape they must have, and with nothing cut off.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.errors import InputError


class UniqueIds(tuple[str, ...]):
    """Ids of images, from a reader that made sure in another way that none stands twice: millions take their time."""

    __slots__ = ()


def checked_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """The ids as a tuple; `InputError` for one that is no text, as the numbers of COCO, or that stands twice.

    >>> checked_ids([7])
    Traceback (most recent call last):
    wildbox.errors.InputError: image id 7: expected a text
    """
    if isinstance(ids, UniqueIds):
        return tuple(ids)
    given = tuple(ids)
    for id_ in given:
        if not isinstance(id_, str):
            raise InputError(f"image id {id_!r}: expected a text")
    if len(set(given)) != len(given):
        raise InputError("an image id stands twice among the images")
    return given


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A read-only view of a column, in C order; the caller's own array stays as it was."""
    view = np.ascontiguousarray(values)[:]
    view.setflags(write=False)
    return view


def checked_column(
    value: ArrayLike, dtype: type, name: str, rows: int, *, width: int | None = None
) -> NDArray[Any]:
    """A column (N,), or (N, width), of a type that holds its values; it is not copied where it has that type.

    Raises:
        InputError: another shape; what is no number; for whole numbers a fraction, for truth values what is neither 0
            nor 1.

    >>> checked_column([1.0, 0.5], np.int64, "label", 2)
    Traceback (most recent call last):
    wildbox.errors.InputError: column 'label', row 1: 0.5, expected a whole number
    """
    try:
        given = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged; tensors: bfloat16, a gradient
        raise InputError(f"column {name!r}: {error}") from error
    if not given.size and given.ndim:
        given = given.reshape((-1,) if width is None else (-1, width))
    if given.ndim != (1 if width is None else 2) or (width is not None and given.shape[1] != width):
        shape = "(N,)" if width is None else f"(N, {width})"
        raise InputError(f"column {name!r} has the shape {given.shape}, expected {shape}")
    if len(given) != rows:
        raise InputError(f"column {name!r} has {len(given)} rows, expected {rows}")
    if given.dtype == dtype or not given.size:
        return np.asarray(given, dtype)
    expected = "a number" if dtype is np.float64 else "0 or 1" if dtype is bool else "a whole number"
    if given.dtype.kind not in ("iufO" if dtype is not np.float64 else "iufbO"):
        raise InputError(f"column {name!r} holds {given.dtype}, expected {expected} in each row")
    try:
        with np.errstate(invalid="ignore"):
            values: NDArray[Any] = given.astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column {name!r}: {error}; expected {expected} in each row") from error
    if dtype is np.float64 or np.can_cast(given.dtype, dtype):
        return values
    if (odd := np.asarray(values != given, bool)).any():
        row = int(np.argmax(odd))
        raise InputError(f"column {name!r}, row {row}: {given[row]}, expected {expected}")
    return values
