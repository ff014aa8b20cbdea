"""The classes of the glyph world: what is drawn, what it is called, whose kind it is, what it is confused with.

All glyphs stand in DejaVu Sans, which matplotlib ships. The order is the order of frequency: the first class is
the most frequent.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from wildbox.vocabulary import Hierarchy, Vocabulary

NAMED = (
    ("★", "Star"), ("♕", "White queen"), ("♪", "Quaver"), ("☀", "Black sun"), ("✓", "Check mark"),
    ("♥", "Heart"), ("→", "Thin arrow"), ("☎", "Black telephone"), ("⚄", "Die five"), ("❄", "Snowflake"),
    ("✂", "Black scissors"), ("☁", "Cloud"), ("✗", "Ballot cross"), ("♞", "Black knight"), ("♫", "Beamed quavers"),
    ("☼", "White sun"), ("✔", "Heavy check mark"), ("♠", "Spade"), ("➔", "Wide arrow"), ("☏", "White telephone"),
    ("☂", "Umbrella"), ("❅", "Tight snowflake"), ("✁", "Open scissors"), ("☾", "Crescent moon"),
    ("✘", "Heavy ballot cross"), ("⚅", "Die six"), ("♣", "Club"), ("☞", "Pointing hand"), ("♌", "Leo"),
    ("♛", "Black queen"), ("✉", "Envelope"), ("⚂", "Die three"), ("♬", "Beamed semiquavers"), ("♄", "Saturn"),
    ("♦", "Diamond"), ("♏", "Scorpio"), ("♘", "White knight"), ("✌", "Victory hand"), ("♀", "Venus"),
    ("♯", "Sharp"), ("⚀", "Die one"), ("♓", "Pisces"), ("♚", "Black king"), ("↻", "Round arrow"),
    ("⚁", "Die two"), ("♊", "Gemini"), ("♖", "White rook"), ("♂", "Mars"), ("♝", "Black bishop"),
)  # fmt: skip
"""The 49 leaf classes of the default world."""

KINDS = {
    "Chess piece": "♕♞♛♘♚♖♝♜♔♙",
    "Card suit": "♥♠♣♦♧♡♤",
    "Die": "⚄⚅⚂⚀⚁",
    "Game piece": ("Chess piece", "Card suit", "Die"),
    "Musical sign": "♪♫♬♯♩♭",
    "Weather": "☀☼☁❄❅☂☃☔❈⚡",
    "Sky object": "★☀☼☾♄♀♂☄☽☿♁♃♅♆♇",
    "Zodiac sign": "♌♏♓♊♈♉♋♍♎♐♑♒",
    "Hand": "☞✌☚☛☜☝☟✍",
    "Face": "☹☻😂😄😇😈😱😴😸😹😼🐭🐮",
}
"""Parent class -> its glyphs, or its own child classes. The suns have two parents."""


@dataclass(frozen=True)
class LookAlike:
    """Two classes that annotators take for each other, and how often.

    Of the objects of either, `own` carry their own label, `other` the other one's, `both` two boxes; sum 1.
    """

    a: str
    b: str
    own: float
    other: float
    both: float


LOOK_ALIKES = (
    LookAlike("♪", "♫", 0.40, 0.30, 0.30),
    LookAlike("☀", "☼", 0.30, 0.30, 0.40),
    LookAlike("✓", "✔", 0.50, 0.20, 0.30),
    LookAlike("→", "➔", 0.45, 0.25, 0.30),
    LookAlike("☎", "☏", 0.50, 0.20, 0.30),
    LookAlike("❄", "❅", 0.35, 0.30, 0.35),
    LookAlike("✂", "✁", 0.40, 0.20, 0.40),
    LookAlike("✗", "✘", 0.60, 0.15, 0.25),
)

FURTHER = (
    "ჱ↶ՖႬմի∵➩▬Ճ☻թ☽ი🐮Γ♜⚡➮Ի❡⚑Ⴆ☌↴◄ცέ⇙ՔქႱ3⊏✱Й☜С♋↩✇4ΩΤ₡რ◍⇱⚵վ☑➳➚◓mա▷εႴե😸Ъ↜₫♈❍щ✑ΰ↹5Ⴞ⚔➟ჰ▧კԾ⇧◧⇻₰✰⇾₯❀ΣԲႪձ♅✿"
    "Ⴤ1☊↓ζ☮⇶♿☠დ↝⇺⇍⚴↲♃Ժ⚖₺ბ♻պ😇↳◴⚟Տ➤d⊆➬ό△Θ⇨ა↙⇗⚐ς▣∆⛁✧ֆ⇏◊դ☣⇑♩☋₠⚗♨➢⇘✏♐◮✩λ⚓✄↾↖f☢☍ρ⬇✺и⇩◡😄Ζ➾◈😈♉е↭₧ჲ◣ჴ➛пΚ↱Л"
    "ϊႡ⇎შჹΡ▭Վ⇄⇆◇⚸◁☃ჷ₤փΫ🐭F▯₣Թ6➲❢Ձυή☆⚶☕Щ➴▨♽⇿КΪф₨⬉Ⴋ☤Ⴂ₪Ⴐჯ☄ω↪▻Ⴀ♔➯ფЦΦ⇅✥☯շ▽Υժ⇵₦Э▱Մ☿ႧДႩჭႺ😱♆Ⴏ✐Ⴗ↰Ч⇽я☟⚠Ⴈ♍↸Ϗ♧"
    "➶უց☈Μ9≏⇳β☡☉δ⊚⇲W😂էώ⇓Ξ7գ⚕✵➻₢₲kφք♾♒⚙◅✕Ш⚚♇⋈☖⚒✴✃➘άႥ✈❥Զ◹ϋ◑⇬⇤Խ☓Жt⚞◢ν⇚◠↵Հ♁₵ოЫկ⇥Շ↷Ψ😼Β⚘♭➼₭☚ՆΗ⚳Չნ⋓↺◿∞❈◸"
    "չ⬈ტ₳₴Ⴍე♎⚛✒Ⴟխ✶⬓χ◤Կ😹V♡⊇⚷♙↟Ⴣ⬡⇋Ⴕლ➫μ⚜αԳ✆RևՊჅ✎♤ь☝Юჸη✫❁↯⚇π◥◺У₽↨€ξ◭⇖ն☹➭Լ✦ՒԵჁ☔⬠₹r⇦😴☛←➱♑◉Ⴜ✬✍Α"
)
"""Glyphs for worlds of up to 500 leaf classes, unlike each other and the named ones, in mixed order."""

MAX_LEAVES = 500


@dataclass(frozen=True)
class Alphabet:
    """C classes: L leaves, which are drawn, then their parents."""

    vocabulary: Vocabulary
    hierarchy: Hierarchy
    glyphs: tuple[str, ...]
    """L glyphs; leaf i is class i."""
    look_alikes: dict[int, tuple[int, LookAlike]]
    """Leaf -> (its partner, the rates)."""

    def parents(self, leaf: int) -> list[int]:
        """Direct parents of a leaf, ascending."""
        return [parent for child, parent in self.hierarchy.edges if child == leaf]


def build_alphabet(leaves: int) -> Alphabet:
    """The first `leaves` classes and the parents that they need.

    Further glyphs are named as Unicode names them; those whose names begin alike ("GREEK") share a parent.

    >>> alphabet = build_alphabet(49)
    >>> len(alphabet.glyphs), len(alphabet.vocabulary), len(alphabet.look_alikes)
    (49, 58, 16)
    """
    further = [(glyph, unicodedata.name(glyph).capitalize()) for glyph in FURTHER]
    chosen = [*NAMED, *further][:leaves]
    index = {glyph: i for i, (glyph, _) in enumerate(chosen)}
    members: dict[str, list[int]] = {}
    nested: dict[str, list[str]] = {}
    for parent, children in KINDS.items():
        if isinstance(children, tuple):
            nested[parent] = [child for child in children if child in members]
        elif present := [index[glyph] for glyph in children if glyph in index]:
            members[parent] = present
    for family in ("GREEK", "CYRILLIC", "ARMENIAN", "GEORGIAN"):
        present = [i for i, (glyph, _) in enumerate(chosen[len(NAMED) :], len(NAMED))
                   if unicodedata.name(glyph).startswith(family + " ")]  # fmt: skip
        if len(present) > 1:
            members[f"{family.capitalize()} letter"] = present
    parents = [*members, *(parent for parent, children in nested.items() if children)]
    position = {parent: len(chosen) + i for i, parent in enumerate(parents)}
    edges = [(leaf, position[parent]) for parent, leaves_ in members.items() for leaf in leaves_]
    edges += [(position[child], position[parent]) for parent in nested for child in nested[parent]]
    names = [name for _, name in chosen] + parents
    vocabulary = Vocabulary(tuple(_id(name) for name in names), tuple(names))
    pairs = {}
    for pair in LOOK_ALIKES:
        if pair.a in index and pair.b in index:
            pairs[index[pair.a]] = (index[pair.b], pair)
            pairs[index[pair.b]] = (index[pair.a], pair)
    glyphs = tuple(glyph for glyph, _ in chosen)
    return Alphabet(vocabulary, Hierarchy(len(names), edges), glyphs, pairs)


def _id(name: str) -> str:
    return "/g/" + "".join(c if c.isalnum() else "_" for c in name.lower())
