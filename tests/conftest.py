"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data: the environment's WILDBOX_DATA, or shared/data beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WILDBOX_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (set WILDBOX_DATA)")
    return folder


# the first call of a compiled loop takes as long as its compiler; nothing here is a test of time
settings.register_profile(
    "wildbox",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI"
    in os.environ,  # there the same examples each time; elsewhere new ones look for what is left
)
settings.load_profile("wildbox")
