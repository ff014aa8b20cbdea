"""Where numba keeps compiled loops for the next run: a module that has some imports this before it makes them.

Numba takes the folder that NUMBA_CACHE_DIR names, the `__pycache__` beside the code, or the user's own for caches.
Where it can write to none of them, as in a container whose user has no home, it refuses to make the loops at all: then
they are kept in a folder of this user's among the temporary files.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from pathlib import Path

import numba

from wildbox.errors import ConfigError, InputWarning

ADVICE = "set NUMBA_CACHE_DIR to a folder that can be written to"


def _choose_folder() -> None:
    try:
        numba.njit(cache=True)(_choose_folder)  # looks for a place, and compiles nothing
    except RuntimeError:
        folder = _own_folder()
        os.environ["NUMBA_CACHE_DIR"] = folder  # numba reads it anew, and processes that this one starts do
        numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
        message = f"no folder to keep compiled loops in; they are in {folder}, which may not last: {ADVICE}"
        warnings.warn(message, InputWarning, stacklevel=2)


def _own_folder() -> str:
    """A temporary folder that lasts, of this user alone: who could write to it could have us run their code."""
    try:
        folder = Path(tempfile.gettempdir()) / f"wildbox-loops-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"no folder to keep compiled loops in ({error}); {ADVICE}") from error
    if about.st_uid != os.getuid() or stat.S_IMODE(about.st_mode) & 0o077 or not stat.S_ISDIR(about.st_mode):
        raise ConfigError(f"{folder} is no folder of this user alone, to keep compiled loops in; {ADVICE}")
    return str(folder)


_choose_folder()
