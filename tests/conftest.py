"""Settings of the whole suite."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

# In continuous integration the examples are the same every time, so that a red run is the change's own.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("ci", derandomize=True, **_COMMON)
settings.register_profile("dev", **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def require(tool: str) -> None:
    """Skip where an optional tool is missing, and fail in continuous integration, which installs every tool."""
    if shutil.which(tool) is None:
        message = f"{tool} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture
def needs_tool():
    """The function `require`, for tests that run a tool."""
    return require
