"""What every test stands on: an empty environment and asyncio under anyio."""

import os

import pytest

OURS = ("OTLP_RELAY_", "OTEL_", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SYSTEMD = (
    *("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "JOURNAL_STREAM"),
)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every variable away that the product reads: a developer's shell decides no test."""
    for name in list(os.environ):
        if name.upper().startswith(OURS) or name in SYSTEMD:
            monkeypatch.delenv(name)


@pytest.fixture
def anyio_backend() -> str:
    """We run on asyncio only, as uvicorn and uvloop do."""
    return "asyncio"
