"""What all tests share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import wildbox


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data: the environment's WILDBOX_DATA, or shared/data beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WILDBOX_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set WILDBOX_DATA)")
    return folder


def drop_stale_machine_code(package: Path) -> None:
    """Remove what numba kept from before the newest of its sources.

    It looks at the file of a compiled function, not at those of what it calls: after an edit there, tests
    would run the old code.
    """
    sources = [path for path in package.rglob("*.py") if "numba" in path.read_text(encoding="utf-8")]
    newest = max(path.stat().st_mtime for path in sources)
    for kept in package.rglob("__pycache__/*.nb[ic]"):
        with contextlib.suppress(FileNotFoundError):  # another process of the same tests was faster
            if kept.stat().st_mtime < newest:
                kept.unlink()


drop_stale_machine_code(Path(wildbox.__file__).parent)

# the first call of a compiled loop takes as long as its compiler; nothing here is a test of time
settings.register_profile(
    "wildbox",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI"
    in os.environ,  # there the same examples each time; elsewhere new ones look for what is left
)
settings.load_profile("wildbox")
