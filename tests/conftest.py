"""What all tests share: hypothesis tries the same examples on every run, on slow machines too."""

import pytest
import structlog
from hypothesis import settings

from tests.support.simulated import sketch, sketched, stub_model, worked

__all__ = ["sketch", "sketched", "stub_model", "worked"]

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _own_logger():
    """Each test begins with structlog as it comes: a command that ran before it has set it up."""
    yield
    structlog.reset_defaults()
