"""Names in scripts that matplotlib's own font lacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from wildbox.errors import InputWarning
from wildbox.reports import fonts
from wildbox.reports.charts import imbalance_curve

D_WITH_HOOK = "\u1d81"
"""In STIXGeneral, which matplotlib ships beside DejaVu Sans, which lacks it."""


@pytest.fixture
def _nothing_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No font beside the first."""
    fonts._family_with.cache_clear()
    monkeypatch.setattr(fonts, "_installed", list)
    yield
    fonts._family_with.cache_clear()


def test_an_installed_font_draws_what_the_first_lacks(tmp_path: Path) -> None:
    """Matplotlib warns of each glyph that it misses; here it misses none."""
    assert len(fonts.families(D_WITH_HOOK)) == len(fonts.families("d")) + 1
    assert fonts.undrawable([D_WITH_HOOK]) == ""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph")
        imbalance_curve([2, 1], tmp_path / "curve.png", names=[D_WITH_HOOK, "d"])


@pytest.mark.usefixtures("_nothing_else")
@pytest.mark.filterwarnings("ignore:Glyph")
def test_characters_of_no_font_are_told_once_a_picture(tmp_path: Path) -> None:
    """Each once, up to ten; line breaks and marks of direction draw nothing."""
    names = [D_WITH_HOOK, D_WITH_HOOK + "\u1d84", "d\n\u200e"]
    with pytest.warns(InputWarning, match="curve.png: no installed font has \u1d81\u1d84: empty") as told:
        imbalance_curve([2, 1, 1], tmp_path / "curve.png", names=names)
    assert len([warning for warning in told if warning.category is InputWarning]) == 1
    with pytest.warns(InputWarning, match="and 5 more: empty"):
        imbalance_curve([1], tmp_path / "many.png", names=["".join(map(chr, range(0x4E00, 0x4E0F)))])
    assert fonts.undrawable(["d\n\u200e"]) == ""


def test_boxes_of_the_last_resort_are_no_letters() -> None:
    """Recent matplotlib brings a font that has every character, all of them boxes."""
    assert not any(entry.name.startswith("Last Resort") for entry in fonts._installed())
