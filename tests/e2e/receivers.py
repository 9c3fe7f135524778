"""Prometheus and the two of VictoriaMetrics in containers: items in; what they keep of them out."""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from tests.e2e.containers import Ground, Service

FILES, STORAGE = "/etc/receiver", "/var/lib/receiver"


@dataclass(frozen=True)
class Kind:
    """One of the three: where it takes OTLP, what it answers there to JSON, how it is started."""

    image: str
    port: int
    path: str
    answers: tuple[int, ...]
    command: tuple[str, ...]


PROMETHEUS = Kind(
    "prometheus",
    9090,
    "/api/v1/otlp/v1/metrics",
    (200,),
    (
        f"--config.file={FILES}/prometheus.yml",
        f"--storage.tsdb.path={STORAGE}",
        "--web.listen-address=0.0.0.0:9090",
        "--web.enable-otlp-receiver",
    ),
)
VICTORIA_METRICS = Kind(
    "victoria-metrics",
    8428,
    "/opentelemetry/v1/metrics",
    (400,),
    # It usually shows nothing of the last 30 s.
    (f"-storageDataPath={STORAGE}", "-httpListenAddr=:8428", "-search.latencyOffset=0s"),
)
VICTORIA_LOGS = Kind(
    "victoria-logs",
    9428,
    "/insert/opentelemetry/v1/logs",
    (400,),
    (f"-storageDataPath={STORAGE}", "-httpListenAddr=:9428"),
)


class Receiver:
    """One receiver that begins empty and keeps what it has over a stop.

    `out_of_order_window` is Prometheus' own setting, such as "2h".
    """

    def __init__(
        self,
        ground: Ground,
        image: str,
        kind: Kind,
        folder: Path,
        *,
        out_of_order_window: str = "0s",
    ) -> None:
        files, kept = folder / kind.image / "files", folder / kind.image / "storage"
        files.mkdir(parents=True)
        kept.mkdir()
        (files / "prometheus.yml").write_text(
            f"storage:\n  tsdb:\n    out_of_order_time_window: {out_of_order_window}\n"
        )
        self._kind = kind
        self._service = Service(
            ground,
            image,
            list(kind.command),
            (kind.port,),
            alias=kind.image,
            volumes={files: FILES, kept: STORAGE},
        )

    @property
    def endpoint(self) -> str:
        """Where it takes OTLP, as this host reaches it."""
        return f"http://127.0.0.1:{self._service.ports[self._kind.port]}{self._kind.path}"

    def start(self) -> Self:
        """Start it, at the same endpoint if it ran before, and wait until it answers."""
        self._service.start()
        self._service.wait_until("POST", self._kind.path, self._kind.port, self._kind.answers)
        return self

    def stop(self) -> None:
        """Stop it by SIGTERM; its disk is kept."""
        self._service.stop()

    def post(self, body: bytes, content_type: str = "application/x-protobuf") -> tuple[int, bytes]:
        """What it answers to an OTLP request."""
        return self._ask("POST", self._kind.path, body, {"Content-Type": content_type})

    def samples(self, query: str, at_seconds: float) -> dict[str, float]:
        """Prometheus, VictoriaMetrics: the samples of a PromQL query, by their labels in JSON."""
        asked = urlencode({"query": query, "time": at_seconds})
        status, text = self._ask("GET", f"/api/v1/query?{asked}")
        assert status == 200, text
        return {
            json.dumps(each["metric"], sort_keys=True): float(each["value"][1])
            for each in json.loads(text)["data"]["result"]
        }

    def lines(self, query: str) -> list[dict[str, Any]]:
        """VictoriaLogs: the log records of a LogsQL query."""
        status, text = self._ask("GET", f"/select/logsql/query?{urlencode({'query': query})}")
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    def flush(self) -> None:
        """VictoriaMetrics and VictoriaLogs: show in queries what has come up to now."""
        self._ask("GET", "/internal/force_flush")

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        port = self._service.ports[self._kind.port]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def logs(self) -> str:
        """All that it has written."""
        return self._service.logs()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._service.remove()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._service.remove()
