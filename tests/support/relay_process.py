"""A real `otlp-relay serve` process with a configuration and a state directory of its own."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.commands import run_here
from tests.support.forked import ForkedRelay
from tests.support.load import LoadRequest
from tests.support.ports import free_port

READY_SECONDS = 60.0  # it takes one; beside much other work a start takes longer than all else
T = TypeVar("T")
# Puts the descriptors named before `--` at 3, 4, … and becomes what is named after it.
PASS_ON = """
import os, sys
mark = sys.argv.index("--")
high = [os.dup2(int(text), 500 + at) for at, text in enumerate(sys.argv[1:mark])]
for at, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + at)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high))}
os.execv(sys.argv[mark + 1], sys.argv[mark + 1 :])
"""
SERVED = ("-m", "relay.cli")
# One suite for both paths over bodies: what a test starts goes the way that the test does.
_PATHS = {"RELAY_PURE": os.environ["RELAY_PURE"]} if "RELAY_PURE" in os.environ else {}
COVERED = {"PATH": os.environ.get("PATH", ""), "PYTHONUNBUFFERED": "1", **_PATHS}


def eventually(  # the one way to wait
    ask: Callable[[], T], *, seconds: float = 20.0, what: str = "what the test waits for"
) -> T:
    """The first true answer of `ask`; fails with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds} s; last: {answer!r}")
        time.sleep(0.02)


class Relay:
    """One relay: start it, post to it, ask it, kill it, start it again on the same state."""

    def __init__(
        self,
        folder: Path,
        destinations: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        settings: str = "",
        environ: Mapping[str, str] | None = None,
        command: tuple[str, ...] | None = None,
        executable: tuple[str, ...] | None = None,
        listening: Sequence[socket.socket] = (),
    ) -> None:
        """`executable` is the start of every command line, of an installed relay; `command` is what
        our Python is told to start, which else need not be started: a relay is forked.

        `listening` are sockets to pass on as a service manager does; name them in `environ`.
        """
        self.folder = folder
        self.ingest_port, self.admin_port = free_port(), free_port()
        self.config = folder / "relay.toml"
        self.state_dir = folder / "state"
        self._settings = settings
        self.environ = dict(environ or {})
        self._is_forked = not (executable or command or listening)
        self._serve = executable or (sys.executable, *(command or SERVED))
        self._listening = tuple(sock.fileno() for sock in listening)
        if listening:
            self._serve = (
                sys.executable,
                "-c",
                PASS_ON,
                *map(str, self._listening),
                "--",
                *self._serve,
            )
        self._installed = executable
        self._log = folder / "relay.log"
        self.process: subprocess.Popen[bytes] | ForkedRelay | None = None
        self.write_config(destinations or {})

    def write_config(self, destinations: Mapping[str, Mapping[str, Any]], more: str = "") -> None:
        """Write the configuration anew; SIGHUP takes it up."""
        lines = [
            'state_dir = "state"',
            f'[ingest]\nlisten = "127.0.0.1:{self.ingest_port}"',
            f'[admin]\nlisten = "127.0.0.1:{self.admin_port}"',
            self._settings,
            more,
        ]
        for name, keys in destinations.items():
            lines.append(f"[destinations.{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in keys.items()]
        self.config.touch(mode=0o600)
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, *, wait: bool = True) -> Self:
        """Start it; with `wait`, until `/readyz` answers 200."""
        environ = {**COVERED, **self.environ}
        if self._is_forked:
            self.process = ForkedRelay(self.config, self._log, environ)
        else:
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    [*self._serve, "serve", "--config", str(self.config)],
                    stderr=log,
                    stdout=log,
                    env=environ,
                    pass_fds=self._listening,
                )
        if wait:
            eventually(
                self.is_ready, seconds=READY_SECONDS, what=f"ready; log: {self.log()[-2000:]}"
            )
        return self

    def is_ready(self) -> bool:
        """Whether it could keep a span now; fails when the process has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}: {self.log()[-3000:]}")
        try:
            return self.get("/readyz", parse=False)[0] == 200
        except OSError:
            return False

    def post(
        self,
        body: bytes | Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        path: str = "/v1/traces",
    ) -> tuple[int, bytes]:
        """POST to `path`: status and body of the answer; JSON unless headers say otherwise."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.ingest_port, timeout=30)
        try:
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request("POST", path, data, sent)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def send(self, made: LoadRequest) -> tuple[int, bytes]:
        """POST one request of a load: status and body of the answer."""
        return self.post(made.body, headers={"Content-Type": made.media_type}, path=made.path)

    def get(self, path: str, *, parse: bool = True, token: str | None = None) -> tuple[int, Any]:
        """GET from the admin listener with the token of the state directory."""
        return self.ask("GET", path, parse=parse, token=token)

    def ask(
        self, method: str, path: str, *, parse: bool = True, token: str | None = None
    ) -> tuple[int, Any]:
        """Any request to the admin listener, likewise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {}
            if parse:
                known = (self.state_dir / "admin-token").read_text().strip()
                headers["Authorization"] = f"Bearer {known if token is None else token}"
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if parse else text.decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """The document of `/api/status`."""
        code, found = self.get("/api/status")
        assert code == 200, found
        return dict(found)

    def destination(self, name: str, signal: str = "") -> dict[str, Any]:
        """One destination's part of the status, the first or that of `signal`."""
        return next(d for d in self.queues(name) if signal in ("", d.get("signal")))

    def queues(self, name: str) -> list[dict[str, Any]]:
        """The parts of the status that are of one destination: one for each of its signals."""
        return [d for d in self.status()["destinations"] if d["name"] == name]

    def owed(self, name: str) -> int:
        """How many items a destination is owed, of all signals."""
        return sum(int(each["waiting_spans"]) for each in self.queues(name))

    def run(
        self, *arguments: str, environ: Mapping[str, str] | None = None, has_process: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Another command with the same configuration, such as `status --json`.

        The first argument is its whole name, such as `destination list`. It runs in this process,
        which takes a tenth of the time, unless it is to have one of its own.
        """
        command, *rest = arguments
        line = [*command.split(), "--config", str(self.config), *rest]
        environ = {**COVERED, **self.environ, **(environ or {})}
        if not (has_process or self._installed or command == "serve"):
            return run_here(line, environ)
        return subprocess.run(
            [*(self._installed or (sys.executable, *SERVED)), *line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environ,
        )

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code, once it ends."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            # Ctrl-C too must not leave it running: nobody would know of it.
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is not None:
            print(f"--- log of the relay ---\n{self.log()[-6000:]}")

    def _end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def toml(value: Any) -> str:
    """A value of the configuration: strings, numbers, booleans and tables of strings."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)
