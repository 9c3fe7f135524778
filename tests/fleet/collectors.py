"""A Collector with receiver and exporter for Kafka, as a process on loopback.

Its program is built by `tests/e2e/recipes/collector-kafka`; `python -m tests.fleet.collectors`
makes it ready and says where it is. Its configurations are those that docs/fleet.md shows.
"""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e import images
from tests.support.kafka import Brokers
from tests.support.ports import free_port
from tests.support.relay_process import eventually

FLEET_PAGE = images.ROOT / "docs" / "fleet.md"
READY_SECONDS = 30.0
STOP_SECONDS = 20.0
_READY = "Everything is ready"
# Its own metrics would want a port that all of them want.
_QUIET = '{"service": {"telemetry": {"metrics": {"level": "none"}}}}'


def shown_under(heading: str) -> str:
    """The configuration that docs/fleet.md shows under a heading."""
    _, _, section = FLEET_PAGE.read_text().partition(f"### {heading}\n")
    found = re.search(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, f"docs/fleet.md shows nothing under {heading!r}"
    return found[1]


def with_addresses(config: str, brokers: Brokers, **others: str) -> str:
    """`config` with addresses of this test instead of those that the page names.

    `others` are `receiver` and `backend`, where it has them.
    """
    named = {
        '"k1:9092", "k2:9092", "k3:9092"': ", ".join(f'"{each}"' for each in brokers.bootstrap),
        **{_NAMED[key]: value for key, value in others.items()},
    }
    for old, new in named.items():
        assert old in config
        config = config.replace(old, new)
    return config


_NAMED = {"receiver": "localhost:4318", "backend": "https://backend.example.com"}


def in_protobuf(config: str) -> str:
    """The writing Collector's configuration as the page shows it."""
    return config


def in_json(config: str) -> str:
    """The same with the encoding and the topics of JSON."""
    return protobuf_among_json(config).replace("otlp_proto", "otlp_json")


def json_among_protobuf(config: str) -> str:
    """The same with JSON in the topics of protobuf: a mistake."""
    return config.replace("otlp_proto", "otlp_json")


def protobuf_among_json(config: str) -> str:
    """The same with protobuf in the topics of JSON: a mistake."""
    return re.sub(r"(topic: otlp_\w+)", r"\1_json", config)


class Collector:
    """One Collector: a context manager that is entered when it runs."""

    def __init__(self, folder: Path, config: str) -> None:
        folder.mkdir()
        self._files = [folder / "config.yaml", folder / "quiet.yaml"]
        for file, text in zip(self._files, (config, _QUIET), strict=True):
            file.write_text(text)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(errors="replace")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the Collector ended: {self.log()[-3000:]}"
        return _READY in self.log()

    def __enter__(self) -> Self:
        command = [str(images.program("collector-kafka"))]
        for file in self._files:
            command += ["--config", str(file)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(self._is_ready, seconds=READY_SECONDS, what="the Collector")
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """End it without a word to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self.kill()


def reading(folder: Path, brokers: Brokers, backend: str) -> Collector:
    """One that reads what relays wrote and hands it to `backend`."""
    config = shown_under("A Collector reads what relays wrote")
    return Collector(folder, with_addresses(config, brokers, backend=backend))


class Writing(Collector):
    """One that writes what relays deliver: of what is posted to its `port`."""

    def __init__(
        self, folder: Path, brokers: Brokers, change: Callable[[str], str] = in_protobuf
    ) -> None:
        self.port = free_port()
        config = shown_under("A Collector writes what relays deliver")
        config = with_addresses(config, brokers, receiver=f"127.0.0.1:{self.port}")
        super().__init__(folder, change(config))


if __name__ == "__main__":
    began = time.monotonic()
    print(f"Collector: {images.program('collector-kafka')}, {time.monotonic() - began:.1f} s")
