"""Lines of CSV text that are rows of as many fields as there should be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.formats.regular_lines import regular_lines

FIELD = st.sampled_from(["", "x", "ü", "x" * 30, "x" * 70, '"a,b"', '"a""b"'])
ROW = st.lists(FIELD, min_size=2, max_size=4).map(",".join)
END = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\0\n", '"\n'])


def _counted(text: str, fields: int) -> int:
    """The same, by regular expressions over the whole text."""
    if "\0" in text or re.search(r"\r(?!\n)", text) or text.count('"') % 2:
        return -1
    # no comma but between fields, and no break within quotes but as lines that are none
    bare = re.sub(r'"[^"]*"', lambda found: "\n\n" * ("\n" in found.group()), text)
    lines = bare.removesuffix("\n").split("\n")
    return len(lines) if all(line.count(",") == fields - 1 for line in lines) else -1


@settings(max_examples=300)
@given(st.lists(st.tuples(ROW, END), min_size=1, max_size=12), st.booleans())
def test_lines_that_are_rows(rows: list[tuple[str, str]], whole: bool) -> None:
    text = "".join(row + end for row, end in rows)
    text = text if whole else text[:-1]
    fields = rows[0][0].count(",") + 1 - rows[0][0].count('"a,b"')
    lines, is_ascii = regular_lines(np.frombuffer(text.encode(), np.uint8), fields)
    assert lines == _counted(text, fields)
    assert lines < 0 or is_ascii == text.isascii()


@pytest.mark.parametrize("before", range(140))
def test_wherever_a_line_ends(before: int) -> None:
    """Also where a block of bytes begins or ends."""
    first = "x" * before + ",y"
    for end, is_right in (("\n", True), ("\r\n", True), ("\r", False), ("\n\0", False), ("\n\n", False)):
        data = np.frombuffer((first + end + "a,b\n" * 40).encode(), np.uint8)
        assert regular_lines(data, 2) == ((41, True) if is_right else (-1, False))


@pytest.mark.parametrize("before", range(140))
def test_wherever_a_character_is_not_ascii(before: int) -> None:
    text = "x" * before + "é,y\n" + "a,b\n" * 20
    assert regular_lines(np.frombuffer(text.encode(), np.uint8), 2) == (21, False)
