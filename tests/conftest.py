"""What all tests share: hypothesis tries the same examples on every run, on slow machines too."""

from hypothesis import settings
from simulated import sketch, sketched, stub_model, worked

__all__ = ["sketch", "sketched", "stub_model", "worked"]

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")
