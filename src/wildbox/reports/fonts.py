"""Fonts for names in any script: matplotlib's own font lacks Chinese, Japanese, Korean, Thai and others."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

import matplotlib
from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

_NO_LETTERS = "Last Resort"
"""Fonts of which every character is a box; recent matplotlib brings one."""


def families(text: str) -> list[str]:
    """Font families that draw the text: matplotlib's present ones, and installed ones for what the first lacks.

    >>> families("café") == families("")
    True
    """
    others = {family for family in map(_family_with, _lacking(text)) if family is not None}
    return [*matplotlib.rcParams["font.family"], *sorted(others)]


def undrawable(texts: Iterable[str]) -> str:
    """The characters of these texts that no installed font has, each once, by code point.

    >>> undrawable(["café", "cat"])
    ''
    """
    return "".join(char for char in _lacking("".join(texts)) if _family_with(char) is None)


def _lacking(text: str) -> list[str]:
    """Characters that the first font lacks. Those without a picture, such as line breaks, lack nothing."""
    held = _characters(findfont(FontProperties()))
    return sorted(char for char in set(text) if ord(char) not in held and char.isprintable())


@lru_cache(maxsize=4096)
def _family_with(char: str) -> str | None:
    for entry in _installed():
        if ord(char) in _characters(entry.fname):
            return entry.name
    return None


@lru_cache(maxsize=1)
def _installed() -> list[FontEntry]:
    """The plainest first, ties by name; matplotlib's list may be older than what is installed by now."""
    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(OSError, RuntimeError):  # damaged, or of a kind that it cannot draw
            fontManager.addfont(path)
    entries = (entry for entry in fontManager.ttflist if not entry.name.startswith(_NO_LETTERS))
    return sorted(entries, key=_plainness)


def _plainness(entry: FontEntry) -> tuple[bool, int, str]:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    return entry.style != "normal", abs(weight - 400), entry.name


@lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())
