"""The classes: ids, display names, indices, and the hierarchy among them.

Letters: C classes, E edges. An *ancestor* of a class is a true label of each of its objects
(Tiger -> Carnivore -> Animal); a class may have several parents: the hierarchy is a directed acyclic graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wildbox.errors import HierarchyError, InputError, VocabularyError


@dataclass(frozen=True)
class Vocabulary:
    """C classes in a fixed order; a class's index is its column wherever classes are columns.

    Args:
        ids: C unique ids, as files write them ("/m/07dm6", "17").
        names: C display names; they may repeat (Open Images has two classes "Mouse"). Default: the ids.
        groups: C groups by frequency as the set's publishers draw them (LVIS: r, c, f), or none; they do not
            make a vocabulary another one.

    Raises:
        VocabularyError: what is no text, one text or a mapping in place of several, an id that stands twice, names or
            groups that are not C.

    >>> animals = Vocabulary(("/m/07dm6", "/m/0jbk"), ("Tiger", "Animal"))
    >>> animals, animals.index("/m/0jbk")
    (Vocabulary(2 classes), 1)
    """

    ids: tuple[str, ...]
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = field(default=(), compare=False)
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids, names, groups = (
            _texts(given, name)
            for given, name in (
                (self.ids, "id"),
                (() if self.names is None else self.names, "name"),
                (self.groups, "group"),
            )
        )
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "names", names or ids)
        object.__setattr__(self, "groups", groups)
        if self.groups and len(self.groups) != len(self.ids):
            raise VocabularyError(f"{len(self.ids)} class ids but {len(self.groups)} groups")
        if len(self.names) != len(self.ids):
            raise VocabularyError(f"{len(self.ids)} class ids but {len(self.names)} names")
        object.__setattr__(self, "_index", {id_: i for i, id_ in enumerate(self.ids)})
        if len(self._index) != len(self.ids):
            twice = next(id_ for id_ in self.ids if self.ids.count(id_) > 1)
            raise VocabularyError(f"class id {twice!r} stands twice in the vocabulary")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} classes)"

    def __contains__(self, id_: object) -> bool:
        return id_ in self._index

    def index(self, id_: str) -> int:
        """Index of a class id; `VocabularyError` where it is unknown."""
        try:
            return self._index[id_]
        except KeyError:
            raise VocabularyError(
                f"unknown class {id_!r}; the vocabulary holds {len(self)} classes: "
                f"{', '.join(self.ids[:3])}{' ...' if len(self) > 3 else ''}"
            ) from None

    def contradiction(self, other: Vocabulary) -> str:
        """Which id is one class here and another there, by their names; "" where nothing says so.

        Files that number their classes 1, 2, 3 share ids without sharing classes. It shows where names of an id stand
        at other ids, and for numbers also where one of the names does, or where none of several is the same; else a
        name may be written differently. Upper and lower case, blanks and underscores are one, and a name that is the
        id is none.

        >>> Vocabulary(("1", "2"), ("cat", "dog")).contradiction(Vocabulary(("1", "2"), ("dog", "cat")))
        "class '1' is 'cat' and 'dog'"
        """
        if self == other:
            return ""
        ours, theirs = self._own_names(), other._own_names()
        shared = [id_ for id_ in ours if id_ in theirs]
        agreed = {ours[id_] for id_ in shared if ours[id_] == theirs[id_]}
        moved = set(ours.values()) & set(theirs.values()) - agreed
        numbers = all(id_.isdecimal() for id_ in shared)
        others = numbers and not agreed and len(shared) > 1
        for id_ in shared:
            both = {ours[id_], theirs[id_]}
            if len(both) == 2 and (others or len(both & moved) >= (1 if numbers else 2)):
                here, there = (some.names[some.index(id_)] for some in (self, other))
                return f"class {id_!r} is {here!r} and {there!r}"
        return ""

    def _own_names(self) -> dict[str, str]:
        return {
            id_: " ".join(name.replace("_", " ").casefold().split())
            for id_, name in zip(self.ids, self.names, strict=True)
            if name != id_
        }


def _texts(given: Iterable[str], name: str) -> tuple[str, ...]:
    """Texts of a column of any kind (those of numpy have a type of their own), or `VocabularyError`."""
    if isinstance(given, str):
        raise VocabularyError(f"class {name}s: expected several texts, got one, {given!r}")
    if isinstance(given, Mapping):
        told = "give its keys, as texts, for the ids and its values for the names"
        raise VocabularyError(f"class {name}s: expected several texts, got a mapping; {told}")
    texts = tuple(given)
    for text in texts:
        if not isinstance(text, str):
            raise VocabularyError(f"class {name} {text!r}: expected a text")
    return tuple(map(str, texts))


def check_same_classes(one: Vocabulary, other: Vocabulary, message: str) -> None:
    """`VocabularyError` with the message where ids differ, or stand in another order, or names contradict.

    >>> one, other = (Vocabulary(("1", "2"), names) for names in (("cat", "dog"), ("dog", "cow")))
    >>> check_same_classes(one, other, "models of different classes")
    Traceback (most recent call last):
    wildbox.errors.VocabularyError: models of different classes: class '1' is 'cat' and 'dog'
    """
    if one.ids != other.ids:
        odd = sorted(set(one.ids) ^ set(other.ids))
        told = f"for example {odd[0]!r}" if odd else "the same in another order"
        raise VocabularyError(f"{message}: {told}")
    if told := one.contradiction(other):
        raise VocabularyError(f"{message}: {told}")


def check_size(hierarchy: Hierarchy, classes: int) -> None:
    """`InputError` where a hierarchy is not of as many classes."""
    if len(hierarchy) != classes:
        raise InputError(f"hierarchy of {len(hierarchy)} classes, expected {classes}")


class Hierarchy:
    """Who is an ancestor of whom, among C classes.

    Args:
        classes: C.
        edges: (child, parent) pairs of class indices; repeated pairs are one.
    Raises:
        HierarchyError: an index outside the classes, or a cycle (it is named).

    >>> h = Hierarchy(3, [(0, 1), (1, 2)])      # Tiger -> Carnivore -> Animal
    >>> h.ancestors(0).tolist(), h.descendants(2).tolist()
    ([1, 2], [0, 1])
    """

    def __init__(self, classes: int, edges: Iterable[Sequence[int]]) -> None:
        self.edges = tuple(sorted({(int(child), int(parent)) for child, parent in edges}))
        outside = [edge for edge in self.edges if not all(0 <= node < classes for node in edge)]
        if outside:
            raise HierarchyError(f"edge {outside[0]} names a class outside 0..{classes - 1}")
        self.is_ancestor = self._closure(classes)
        """(C, C) bool: [i, a] says that a is an ancestor of i; never on the diagonal."""

    def __len__(self) -> int:
        return len(self.is_ancestor)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hierarchy):
            return NotImplemented
        return (len(self), self.edges) == (len(other), other.edges)

    def __hash__(self) -> int:
        return hash((len(self), self.edges))

    def ancestors(self, index: int) -> NDArray[np.intp]:
        """Indices of all ancestors of a class, ascending."""
        return np.flatnonzero(self.is_ancestor[index])

    def descendants(self, index: int) -> NDArray[np.intp]:
        """Indices of all descendants of a class, ascending."""
        return np.flatnonzero(self.is_ancestor[:, index])

    def related(self, a: int, b: int) -> bool:
        """Whether one of the two is an ancestor of the other."""
        return bool(self.is_ancestor[a, b] or self.is_ancestor[b, a])

    def _closure(self, classes: int) -> NDArray[np.bool_]:
        parents: list[list[int]] = [[] for _ in range(classes)]
        for child, parent in self.edges:
            parents[child].append(parent)
        closure = np.zeros((classes, classes), dtype=bool)
        state = np.zeros(classes, dtype=np.int8)  # 0 unseen, 1 on the path, 2 done

        for start in range(classes):
            path = [start] if state[start] == 0 else []
            while path:
                node = path[-1]
                state[node] = 1
                waiting = next((p for p in parents[node] if state[p] != 2), None)
                if waiting is None:
                    for parent in parents[node]:
                        closure[node] |= closure[parent]
                        closure[node, parent] = True
                    state[node] = 2
                    path.pop()
                elif state[waiting] == 1:
                    cycle = [*path[path.index(waiting) :], waiting]
                    error = HierarchyError(f"the hierarchy has a cycle: class indices {cycle}")
                    error.cycle = tuple(cycle)
                    raise error
                else:
                    path.append(waiting)
        return closure
