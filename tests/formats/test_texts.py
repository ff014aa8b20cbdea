"""Equal texts by their views: as polars tells them, whatever lies where."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wildbox.formats.texts
from wildbox.formats.texts import FEW, all_differ, coded, runs

TEXTS = ["", "a", "b", "a" * 12, "a" * 13, "a" * 12 + "b", "b" * 13, "é" * 7, "/m/0ab12", "/m/0ab13"]


def check(column: pl.Series) -> None:
    codes, texts = coded(column)
    assert list(texts) == sorted(set(column.to_list()))
    assert [texts[code] for code in codes.tolist()] == column.to_list()
    starts, images = runs(column)
    lengths = np.diff(starts, append=len(column))
    assert images.to_list() == column.rle().struct.field("value").to_list()
    assert lengths.tolist() == column.rle().struct.field("len").to_list()


@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=9), max_size=4))
def test_columns_in_chunks(chunks: list[list[str]]) -> None:
    check(pl.concat([pl.Series(chunk, dtype=pl.String()) for chunk in [[], *chunks]], rechunk=False))


@pytest.mark.parametrize("repeated", [False, True], ids=["each in its own place", "in one place"])
@pytest.mark.parametrize("different", [1, FEW - 1, FEW, FEW + 1, 3 * FEW, 5 * FEW])
def test_many_texts(different: int, *, repeated: bool) -> None:
    some = pl.Series([f"a text that is long enough {i}" for i in range(different)])
    rows = np.random.default_rng(different).integers(0, different, 12 * FEW)
    column = some.gather(np.sort(rows)) if repeated else pl.Series([some[i] for i in rows.tolist()])
    check(column)
    check(column[5:-7])


def test_one_chunk_of_many_texts_among_others() -> None:
    many = pl.Series([f"a text that is long enough {i}" for i in range(FEW + 100)])
    few = many.gather(np.repeat(np.arange(9), FEW))
    check(pl.concat([few, many.reverse(), few], rechunk=False))


def test_short_texts_of_which_there_are_many() -> None:
    check(pl.Series([f"{i % 9_000}" for i in range(40_000)]))


@given(st.lists(st.sampled_from(TEXTS), max_size=9), st.integers(1, 9))
def test_whether_all_differ(some: list[str], first: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wildbox.formats.texts, "MANY", first)
        assert all_differ(pl.Series(some, dtype=pl.String())) == (len(set(some)) == len(some))
