"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wildbox.errors import WildboxError

TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, by a lock on its file `lock`, while the block runs.

    The lock is the process's own: it goes with it, even killed, and the processes that it starts do not hold it. So
    it does not keep out the same process. On a file system without locks nobody is kept out.

    Raises:
        WildboxError: another process holds the folder; it says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                stream.seek(0)
                raise WildboxError(
                    f"{folder}: {stream.read().strip() or 'another process'} works in this folder; wait for it, end "
                    "it, or choose another output folder"
                ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} of {os.uname().nodename}\n")
        stream.flush()
        yield
