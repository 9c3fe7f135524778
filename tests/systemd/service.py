"""The service inside a machine, as its operator sees it: systemctl, its files, its admin API.

And `Sender`: threads that open a connection for each request and never try again.
"""

import http.client
import json
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mockcollector import MockCollector
from tests.support.load import request_of, span_ids
from tests.support.relay_process import eventually, toml
from tests.systemd.machine import Machine

SERVICE, SOCKET = "otlp-relay.service", "otlp-relay.socket"
INGEST_PORT, ADMIN_PORT = 4318, 4380
STATE, CONFIG = "/var/lib/otlp-relay", "/etc/otlp-relay/relay.toml"
CREDENTIALS = "/etc/otlp-relay/credentials"
DROP_INS = "/etc/systemd/system"


class Service:
    """otlp-relay in a machine that has the package."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._packaged = machine.path("/opt/otlp-relay/doc/relay.toml").read_text()

    def reset(self) -> Self:
        """As the package leaves it, with nothing kept, and running."""
        machine = self.machine
        machine.run("systemctl", "stop", SOCKET, SERVICE)
        machine.sh(
            f"find {STATE} {CREDENTIALS} -mindepth 1 -delete; rm -rf {DROP_INS}/otlp-relay*.d"
        )
        machine.path(CONFIG).write_text(self._packaged)
        self.reload_units()
        machine.run("systemctl", "reset-failed")
        machine.run("systemctl", "start", SOCKET, SERVICE)
        return self

    def configure(self, **destinations: dict[str, Any]) -> None:
        """Write these destinations into the configuration; a reload or restart takes them up."""
        lines = [self._packaged]
        for name, keys in destinations.items():
            lines.append(f"[destinations.{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in keys.items()]
        self.machine.path(CONFIG).write_text("\n".join(lines) + "\n")

    def drop_in(self, text: str, unit: str = SERVICE) -> None:
        """What `systemctl edit` does."""
        path = self.machine.path(f"{DROP_INS}/{unit}.d/test.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.reload_units()

    def reload_units(self) -> None:
        """Let systemd read its units again."""
        self.machine.run("systemctl", "daemon-reload")

    def control(self, *words: str) -> None:
        """`systemctl WORDS otlp-relay.service`, which has to succeed."""
        self.machine.run("systemctl", *words, SERVICE)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.machine.show(SERVICE, name)

    @property
    def pid(self) -> int:
        """Of its main process, as the machine numbers it; 0 when there is none."""
        return int(self.show("MainPID"))

    def kill(self, signal: str, pid: int | None = None) -> None:
        """Signal the main process and nothing else."""
        self.machine.sh(f"kill -{signal} {pid or self.pid}")

    def wait_until_active(self, *, other_than: int = 0, seconds: float = 30.0) -> None:
        """Until it is ready, in a process that is not `other_than`."""
        eventually(
            lambda: (
                self.show("ActiveState") == "active"
                and self.show("SubState") == "running"
                and self.pid != other_than
            ),
            seconds=seconds,
            what="the service being active",
        )

    def status(self) -> dict[str, Any]:
        """The document of `/api/status`."""
        token = self.machine.path(f"{STATE}/admin-token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=10)
        try:
            connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def destination(self, name: str) -> dict[str, Any]:
        """One destination's part of the status; empty when it is not there."""
        return next((d for d in self.status()["destinations"] if d["name"] == name), {})

    def log(self) -> str:
        """Its journal."""
        return self.machine.journal_text(SERVICE)

    def save_log(self, folder: Path) -> None:
        """For the report of a test that failed."""
        (folder / "journal").write_text(self.log())
        shutil.copyfile(self.machine.path(CONFIG), folder / "relay.toml")


def post(ids: list[str], *, host: str = "127.0.0.1", padding: str = "") -> int:
    """Post spans with these ids on a connection of their own; the status."""
    connection = http.client.HTTPConnection(host, INGEST_PORT, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/traces", request_of(ids, padding=padding), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def post_kept(requests: int = 10, spans: int = 5) -> set[str]:
    """Post that many requests, each answered with 200. The ids."""
    posted: set[str] = set()
    for _ in range(requests):
        ids = span_ids(spans)
        assert post(ids) == 200
        posted.update(ids)
    return posted


def arrived(upstream: MockCollector) -> set[str]:
    """Ids of the spans that it has taken."""
    return {span.span_id for span in upstream.journal.spans()}


def wait_for_all(ids: set[str], upstream: MockCollector) -> None:
    """Until each of them has arrived."""
    eventually(lambda: ids <= arrived(upstream), seconds=60, what="every acknowledged span")


class Sender:
    """Posts until it is left, each request once, on a connection of its own."""

    def __init__(self, *, threads: int = 4, spans: int = 2) -> None:
        self._spans = spans
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.acknowledged: set[str] = set()
        self.statuses: dict[int, int] = {}
        self.refused = 0  # connections
        self.broken: list[str] = []  # requests without an answer
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._stop.is_set():
            ids = span_ids(self._spans)
            status, fault = 0, ""
            is_refused = False
            try:
                status = post(ids)
            except ConnectionRefusedError:
                is_refused = True
                self._stop.wait(0.02)  # no more of these than needed
            except (OSError, http.client.HTTPException) as error:
                fault = repr(error)
            with self._changed:
                self.refused += is_refused
                if fault:
                    self.broken.append(fault)
                if status:
                    self.statuses[status] = self.statuses.get(status, 0) + 1
                if status == 200:
                    self.acknowledged.update(ids)
                self._changed.notify_all()

    def wait_for_more(self, spans: int, *, seconds: float = 60.0) -> None:
        """Until that many more spans have been acknowledged."""
        with self._changed:
            goal = len(self.acknowledged) + spans
            done = self._changed.wait_for(lambda: len(self.acknowledged) >= goal, seconds)
        assert done, f"{len(self.acknowledged)} of {goal}; {self.statuses}, {self.broken[:3]}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
