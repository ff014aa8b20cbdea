"""Compiled loops where they cannot be kept: other processes, whose folders take no cache, whoever runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wildbox

KEPT = """
import multiprocessing

def kept(_=None):
    from wildbox.threads import _nothing
    _nothing()
    return sum(_nothing.stats.cache_hits.values())

if __name__ == "__main__":
    print(kept(), multiprocessing.get_context("spawn").Pool(1).map(kept, [0]))
"""


@pytest.fixture
def homeless(tmp_path: Path) -> dict[str, str]:
    """An environment whose `wildbox` takes no cache: `__pycache__` are files there, which stop root too."""
    copy = tmp_path / "packages" / "wildbox"
    shutil.copytree(Path(wildbox.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, _ in os.walk(copy):
        Path(folder, "__pycache__").touch()
    (tmp_path / "temporary").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CACHE")}
    home = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "TMPDIR": str(tmp_path / "temporary")}
    return environment | home | {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def run(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    command = [sys.executable, str(folder / "script.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_without_a_home_loops_are_kept_among_temporary_files(
    tmp_path: Path, homeless: dict[str, str]
) -> None:
    own = tmp_path / "temporary" / f"wildbox-loops-{os.getuid()}"
    first = run(KEPT, tmp_path, homeless)
    assert first.stdout == "0 [1]\n", first.stderr
    assert first.stderr.count("Warning: ") == 1
    assert f"they are in {own}, which may not last: set NUMBA_CACHE_DIR" in first.stderr
    assert own.stat().st_mode & 0o777 == 0o700
    assert run(KEPT, tmp_path, homeless).stdout == "1 [1]\n"


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_folder_that_others_could_write_to_is_refused(
    tmp_path: Path, homeless: dict[str, str], kind: str
) -> None:
    own = tmp_path / "temporary" / f"wildbox-loops-{os.getuid()}"
    if kind == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        own.symlink_to(tmp_path / "elsewhere")
    elif kind == "a file":
        own.touch(mode=0o600)
    else:
        own.mkdir()
        own.chmod(0o770)
    last_line = run(KEPT, tmp_path, homeless).stderr.splitlines()[-1]
    assert last_line.startswith("wildbox.errors.ConfigError: ")
    assert str(own) in last_line
    assert last_line.endswith("set NUMBA_CACHE_DIR to a folder that can be written to")
