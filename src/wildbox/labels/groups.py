"""Groups of classes as an audit left them: by frequency, and by whether they concur."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildbox.errors import InputError
from wildbox.formats.csv_rows import named_rows
from wildbox.labels.concurrency import ConcurrentRates
from wildbox.vocabulary import Vocabulary

COLUMNS = ("class_id", "group")


def read_groups(folder: str | Path, vocabulary: Vocabulary) -> dict[str, NDArray[np.str_]]:
    """Two ways to group classes, from the folder that `write_audit` fills.

    Returns:
        "frequency": (C,) head, middle, tail or absent; "concurrence": (C,) concurring, where a class has a rate above
        0 with another or another with it, or alone. Both are "" for a class that the audit does not know.
    Raises:
        InputError: no such files, a missing column, none of the classes, or classes of other names.
    """
    path = Path(folder) / "classes.csv"
    rows = {row["class_id"]: row for _, row in named_rows(path, COLUMNS)[1]}
    group = {id_: row["group"] for id_, row in rows.items()}
    if not group.keys() & set(vocabulary.ids):
        raise InputError(
            f"an audit of other classes: {vocabulary.ids[0]!r} and all others are not there", path=path
        )
    audited = Vocabulary(tuple(rows), tuple(row.get("class_name") or id_ for id_, row in rows.items()))
    if told := audited.contradiction(vocabulary):
        raise InputError(f"an audit of other classes: {told}", path=path)
    rates = ConcurrentRates.read(Path(folder) / "concurrent_rates.csv", audited).values
    concurs = (rates > 0).any(axis=0) | (rates > 0).any(axis=1)
    kind = dict(zip(group, np.where(concurs, "concurring", "alone").tolist(), strict=True))
    return {
        "frequency": np.array([group.get(id_, "") for id_ in vocabulary.ids], np.str_),
        "concurrence": np.array([kind.get(id_, "") for id_ in vocabulary.ids], np.str_),
    }
