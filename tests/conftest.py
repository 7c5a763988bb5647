"""What every test shares: the random seed is printed, and no proxy or credential of the machine leaks in."""

import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

_LEAKY = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "PUBSUB_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST",
)

# How fast a machine is today is no property of the code: nothing here is judged by Hypothesis's own clock.
settings.register_profile("baton", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("baton")


def pytest_configure(config: pytest.Config) -> None:
    for name in list(os.environ):
        if name in _LEAKY or name.startswith("BATON_"):
            del os.environ[name]
    # A shell's background job ignores Ctrl-C, and so would everything that a test starts, only to press Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """A test that sets the log up must not leave its captured, later closed stream to the next one."""
    yield
    structlog.reset_defaults()
