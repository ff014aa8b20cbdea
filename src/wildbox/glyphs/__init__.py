"""The glyph world: a long-tailed, multi-labelled detection set of any size, drawn from a font."""

from wildbox.glyphs.alphabet import LOOK_ALIKES, Alphabet, LookAlike, build_alphabet
from wildbox.glyphs.world import GlyphWorld, draw_world, planted_rates, scene_of

__all__ = [
    "LOOK_ALIKES",
    "Alphabet",
    "GlyphWorld",
    "LookAlike",
    "build_alphabet",
    "draw_world",
    "planted_rates",
    "scene_of",
]
