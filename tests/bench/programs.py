"""The relays that are measured side by side, each started for one trial and ended after it.

Neither the Collector nor rotel is part of the project. The Collector is the one that `make
test-e2e` builds, with its queue on disk and synced, as our buffer is; rotel comes as a Python
package of that name and keeps everything in memory.
"""

import fcntl
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.bench.payloads import KINDS
from tests.bench.processes import RELAY_CORE, cpu_seconds, start, wait_for_port
from tests.bench.rows import Row
from tests.bench.tab import Tab
from tests.e2e import images
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
CACHE = images.CACHE / "bench"
ROTEL = "rotel==0.0.1a15"
NATIVE = "otlp_relay_native"
QUIET_SECONDS = 1.0  # without work for so long: everything is delivered
IDLE_SHARE = 0.075  # of a core, which it uses anyway
MOST_SECONDS = 120.0
LOOK_SECONDS = 0.2  # at the CPU of one that cannot be asked, so often
ASK_SECONDS = 0.1  # the relay's own answers are CPU of the relay
# What others of the same release wrote there must not turn up here.
_NO_SETTINGS = {name: "" for name in os.environ if name.startswith(("OTEL_", "ROTEL_"))}


class RefusedError(Exception):
    """A program does not take this load."""


@dataclass(frozen=True)
class Plan:
    """What a program is to do in one trial."""

    row: Row
    upstreams: tuple[str, ...]  # base URLs; those that are up
    down: tuple[str, ...] = ()
    ca_file: str = ""


class Program(Protocol):
    """Something that takes OTLP over HTTP and sends it on."""

    @property
    def name(self) -> str:
        """In tables."""

    def start(self, folder: Path, plan: Plan) -> "Running":
        """Start it; returns when it accepts."""


class Running:
    """One that runs, on a core of its own. Without an admin API it is done when it is idle."""

    def __init__(
        self,
        command: list[str],
        port: int,
        *,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port
        environ = {**_NO_SETTINGS, **(environ or {})}
        self._process = start(command, RELAY_CORE, folder=folder, environ=environ)
        wait_for_port(port, self._process)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it takes requests."""
        return (self.port,)

    @property
    def pids(self) -> tuple[int, ...]:
        """Whose CPU and memory are its own."""
        return (self.pid,)

    @property
    def broker_pids(self) -> tuple[int, ...]:
        """Of the brokers that keep its log, where it has none of its own."""
        return ()

    def wait_until_delivered(self, items: int) -> float:
        """Until upstreams have that many, or there has been nothing to do for a while. When that
        was so, by `time.perf_counter`, about.
        """
        started = busy_at = time.perf_counter()
        before = cpu_seconds(self.pid)
        while busy_at - started < MOST_SECONDS and time.perf_counter() - busy_at < QUIET_SECONDS:
            time.sleep(LOOK_SECONDS)
            used = cpu_seconds(self.pid)
            if used - before >= LOOK_SECONDS * IDLE_SHARE:
                busy_at = time.perf_counter()
            before = used
        return busy_at

    def open_tab(self, folder: Path, screens: Sequence[str]) -> Tab:
        """The page of it, in a tab that looks at those screens."""
        raise RefusedError(f"nothing to look at: {folder}, {screens}")

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait()


@dataclass(frozen=True)
class Relay:
    """Ours, of this checkout or another."""

    name: str
    checkout: Path = ROOT
    environ: Mapping[str, str] = field(default_factory=dict)
    profile: Path | None = None  # a cProfile of it goes there

    @property
    def python(self) -> str:
        """The interpreter of that checkout."""
        own = self.checkout / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable

    @property
    def is_native(self) -> bool:
        """Whether the native part is installed there."""
        look = f"import importlib.util as u, sys; sys.exit(u.find_spec({NATIVE!r}) is None)"
        return subprocess.run([self.python, "-c", look], check=False).returncode == 0

    def start(self, folder: Path, plan: Plan) -> "RunningRelay":
        """With one destination `upN` for each upstream, and `down` where one is."""
        return RunningRelay(self, folder, plan)


class RunningRelay(Running):
    """Ours while it runs; started again it finds its state."""

    def __init__(self, relay: Relay, folder: Path, plan: Plan, more: str = "") -> None:
        """`more` is written into its configuration."""
        self._admin = free_port()
        self.state_dir = folder / "state"
        port = free_port()
        config = folder / "relay.toml"
        config.touch(mode=0o600)
        config.write_text(self._config(plan, port, more))
        profiler = ["-m", "cProfile", "-o", str(relay.profile)] if relay.profile else []
        serve = ["-m", "relay.cli", "serve", "--config", str(config), "--log-level", "error"]
        self._again = ([relay.python, *profiler, *serve], port, relay.checkout, relay.environ)
        self._start()

    def _start(self) -> None:
        command, port, checkout, environ = self._again
        super().__init__(command, port, folder=checkout, environ=environ)

    def restart(self) -> None:
        """Stop it, and start it on the same folder and ports."""
        self.stop()
        self._start()

    def _config(self, plan: Plan, port: int, more: str) -> str:
        row = plan.row
        words = [
            'state_dir = "state"',
            f'[ingest]\nlisten = "127.0.0.1:{port}"',
            f'[admin]\nlisten = "127.0.0.1:{self._admin}"',
            f'[buffer]\nmax_size = "{row.max_size}"\nmin_free = "64MiB"',
            more,
        ]
        names = [f"up{number}" for number in range(len(plan.upstreams))]
        for name, url in zip(
            [*names, *["down"] * len(plan.down)], [*plan.upstreams, *plan.down], strict=True
        ):
            words += [
                f'[destinations.{name}]\nendpoint = "{url}/v1/traces"\nencoding = "{row.sends}"',
                'headers = { Authorization = "Bearer x" }',
            ]
            signal = KINDS[row.kind].signal.word
            if signal != "traces":
                words.append(f'signals = ["{signal}"]')
            if row.steps:
                words.append(row.steps)
            if name == "down":
                words.append('hold = "1s"')
            if plan.ca_file:
                words.append(f'ca_file = "{plan.ca_file}"')
        return "\n".join(words) + "\n"

    def open_tab(self, folder: Path, screens: Sequence[str]) -> Tab:
        """The page of it, in a tab that looks at those screens."""
        return Tab(self._admin, self.state_dir / "admin-token", folder, screens)

    def ask(self, path: str) -> Any:
        """GET from the admin API."""
        token = (self.state_dir / "admin-token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        found = json.loads(connection.getresponse().read())
        connection.close()
        return found

    def is_ready(self) -> bool:
        """Whether it takes requests now."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=30)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        return status == 200

    def wait_until_delivered(self, items: int) -> float:
        """Until every upstream that is up has that many; ends the benchmark when none comes."""
        return wait_until_delivered([self], items)

    def delivered(self) -> Counter[str]:
        """How many items each upstream that is up has had of it, or was not to have."""
        return Counter(
            {
                each["name"]: each["delivered_spans"] + sum(each.get("filtered_spans", {}).values())
                for each in self.ask("/api/status")["destinations"]
                if each["name"] != "down"
            }
        )


def wait_until_delivered(relays: Sequence[RunningRelay], items: int) -> float:
    """Until every upstream that is up has that many, of all `relays` together; ends the benchmark
    when they do not come. When that was so, by `time.perf_counter`.
    """
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(ASK_SECONDS)
        found = Counter[str]()
        for relay in relays:
            found.update(relay.delivered())  # keeps those that have had nothing yet
        if min(found.values(), default=items) >= items:
            return time.perf_counter()
    sys.exit(f"not delivered within {MOST_SECONDS:.0f} s: {dict(found)}, expected {items}")


@dataclass(frozen=True)
class Collector:
    """The OpenTelemetry Collector."""

    program: Path
    name: str = "Collector"

    def start(self, folder: Path, plan: Plan) -> Running:
        """With one exporter for each destination, all behind one queue directory."""
        port = free_port()
        (folder / "queue").mkdir()
        exporters = {
            f"otlp_http/{number}": {
                "endpoint": url,
                "compression": "none",
                "sending_queue": {"storage": "file_storage", "queue_size": 100_000},
                **({"tls": {"ca_file": plan.ca_file}} if plan.ca_file else {}),
            }
            for number, url in enumerate((*plan.upstreams, *plan.down))
        }
        pipeline = {"receivers": ["otlp"], "exporters": list(exporters)}
        storage = {"directory": str(folder / "queue"), "fsync": True}
        config = {
            "extensions": {"file_storage": storage},
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "exporters": exporters,
            "service": {
                "extensions": ["file_storage"],
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "fatal"}},
                "pipelines": dict.fromkeys(("traces", "logs", "metrics"), pipeline),
            },
        }
        (folder / "config.json").write_text(json.dumps(config))
        return Running([str(self.program), "--config", str(folder / "config.json")], port)


@dataclass(frozen=True)
class Rotel:
    """rotel's agent."""

    program: Path
    name: str = "rotel"

    def start(self, folder: Path, plan: Plan) -> Running:
        """It has one exporter for a signal, so rows with more destinations are not for it."""
        port = free_port()
        if len(plan.upstreams) + len(plan.down) > 1:
            raise RefusedError("it sends a signal to one destination alone")
        environ = {
            "ROTEL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{port}",
            "ROTEL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{free_port()}",
            "ROTEL_PID_FILE": str(folder / "pid"),
            "ROTEL_LOG_FILE": str(folder / "log"),
            "ROTEL_EXPORTER": "otlp",
            "ROTEL_OTLP_EXPORTER_ENDPOINT": plan.upstreams[0],
            "ROTEL_OTLP_EXPORTER_PROTOCOL": "http",
            "ROTEL_OTLP_EXPORTER_COMPRESSION": "none",
            # With an authority it would want a certificate of its own as well.
            "ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY": str(bool(plan.ca_file)).lower(),
        }
        return Running([str(self.program), "start"], port, environ=environ)


def collector() -> Collector | None:
    """The Collector of the end-to-end tests, built if it is not there; None without Go."""
    if not images.cached("collector").exists() and shutil.which("go") is None:
        print("no Go here: the Collector is left out")
        return None
    return Collector(images.program("collector"))


def rotel() -> Rotel | None:
    """Rotel in an environment of its own, made if it is not there; None where pip finds none."""
    made = CACHE / f"{ROTEL}-{sys.version_info.major}.{sys.version_info.minor}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "rotel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            install = ["-m", "pip", "install", "--quiet", "--no-deps",
                       "--disable-pip-version-check", ROTEL]  # fmt: skip
            subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
            done = subprocess.run([str(made / "bin" / "python"), *install], check=False)
            if done.returncode:
                print(f"pip does not find {ROTEL}: it is left out")
                return None
            (made / "whole").touch()
    program = next(made.glob("lib/python*/site-packages/rotel/rotel-agent"))
    program.chmod(0o755)
    return Rotel(program)
