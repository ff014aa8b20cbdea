"""What can go wrong, as exceptions that name the place, what was expected and what came.

    WildboxError
    ├── InputError        a file or a table is not what it should be   (also a ValueError)
    │   ├── HierarchyError    the class hierarchy has a cycle or an unknown class
    │   └── VocabularyError   a class id that the vocabulary does not hold
    └── ConfigError       a setting is unknown, missing or contradicts another   (also a ValueError)

The command line prints a `WildboxError` as one line and exits with 2; everything else is a defect of ours.
"""

from __future__ import annotations

from pathlib import Path


class WildboxError(Exception):
    """Root of the errors that a user can cause and mend."""


class InputError(WildboxError, ValueError):
    """A file or table is not what it should be.

    Args:
        message: what was found and what was expected.
        path: the file, if there is one.
        line: 1-based line of the file, the header being line 1.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(place + message)
        self.path = path
        self.line = line


class HierarchyError(InputError):
    """The class hierarchy has a cycle or names a class that does not exist."""

    cycle: tuple[int, ...] = ()
    """Indices of its classes, child to parent, the first one again at the end."""


class VocabularyError(InputError):
    """A class id that the vocabulary does not hold, or holds twice, or that is another class elsewhere."""


class ConfigError(WildboxError, ValueError):
    """A setting is unknown, missing or contradicts another."""


class InputWarning(UserWarning):
    """What real data has and we count rather than refuse: repeated rows, boxes without area.

    The command line prints each as one line.
    """
