"""A Collector in a container: a configuration and files in; an endpoint and its log out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.e2e.containers import Ground, Service

RECEIVER_PORT = 4318
FILES, STORAGE = "/etc/collector", "/var/lib/collector"
TAKES_TRACES = (200, 400, 401)  # it answers; without a token that may be a refusal


class Collector:
    """One Collector, which can be stopped, started again in the same place, and have files changed.

    `files` stand in `/etc/collector` and hold at least `config.yaml`; `/var/lib/collector` is for
    what it writes. `host_port` lets it share the host's network, with its receiver on that port.
    """

    def __init__(
        self,
        ground: Ground,
        image: str,
        folder: Path,
        files: Mapping[str, str],
        *,
        host_port: int | None = None,
    ) -> None:
        self.files, self.storage = folder / "files", folder / "storage"
        self.files.mkdir(parents=True)
        self.storage.mkdir()
        for name, text in files.items():
            self.write(name, text)
        self._port = RECEIVER_PORT if host_port is None else host_port
        self._service = Service(
            ground,
            image,
            ["--config", f"{FILES}/config.yaml"],
            (self._port,),
            volumes={self.files: FILES, self.storage: STORAGE},
            host_network=host_port is not None,
        )

    @property
    def endpoint(self) -> str:
        """The traces URL of its OTLP/HTTP receiver, as this host reaches it."""
        return f"http://127.0.0.1:{self._service.ports[self._port]}/v1/traces"

    def write(self, name: str, text: str) -> None:
        """Write one of its files, in place, since it may be watching that."""
        (self.files / name).write_text(text)

    def start(self) -> Self:
        """Start it, at the same endpoint if it ran before, and wait until its receiver answers."""
        self._service.start()
        self._service.wait_until("POST", "/v1/traces", self._port, TAKES_TRACES)
        return self

    def stop(self) -> None:
        """Stop it by SIGTERM; `/var/lib/collector` is kept, and so is its log."""
        self._service.stop()

    def signal(self, name: str) -> None:
        """Send it a signal: `SIGHUP` lets it read its configuration again."""
        self._service.signal(name)

    def logs(self) -> str:
        """All that it has written."""
        return self._service.logs()

    def remove(self) -> None:
        """Take it away."""
        self._service.remove()
