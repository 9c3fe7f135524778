"""`otlp-relay destination …` as somebody types it: with nobody at its terminal, or with answers."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.commands import run_here
from tests.support.relay_process import Relay


def command_line(relay: Relay, *arguments: str) -> list[str]:
    line = [sys.executable, "-m", "relay.cli", "destination", *arguments]
    return [*line, "--config", str(relay.config)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), **(more or {})}


def run(
    relay: Relay, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the group, nobody at its terminal."""
    return run_here(command_line(relay, *arguments)[3:], environment(environ))


def add(relay: Relay, name: str, upstream: MockCollector, *more: str) -> None:
    """Add what must pass."""
    shown = run(relay, "add", name, "--endpoint", upstream.endpoint, *more)
    assert shown.returncode == 0, shown.stdout + shown.stderr


def on_terminal(
    relay: Relay, arguments: Sequence[str], answers: Sequence[tuple[str, str]]
) -> tuple[int, str]:
    """Run on a terminal; give each answer when its question stands there. Exit code, screen."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        command_line(relay, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,  # not the terminal of whoever runs the tests
        env=environment({"TERM": "dumb"}),
    )
    os.close(theirs)
    screen, waiting, deadline = b"", list(answers), time.monotonic() + 30
    seen = 0
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            screen += chunk
            if waiting and waiting[0][0].encode() in screen[seen:]:
                seen = len(screen)
                os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
        code = process.wait(10)
    shown = screen.decode(errors="replace")
    assert not waiting, f"never asked: {waiting}\n{shown}"
    return code, shown


def saved_file(relay: Relay, name: str) -> Path:
    return relay.folder / "destinations.d" / f"{name}.toml"
