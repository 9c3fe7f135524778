"""A Jaeger in a container: spans in by OTLP/HTTP; whole traces out by its query API v3."""

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlencode

from tests.e2e.containers import Ground, Service
from tests.support.relay_process import eventually

OTLP, QUERY = 4318, 16686
FILES, STORAGE = "/etc/jaeger", "/var/lib/jaeger"
NOWHERE = "/api/v3/traces/00000000000000000000000000000001"
Span = dict[str, Any]

# As Jaeger's own all-in-one, with one change: its store is on disk.
ON_DISK = f"""\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [jaeger_storage_exporter]
extensions:
  jaeger_query:
    storage:
      traces: on_disk
  jaeger_storage:
    backends:
      on_disk:
        badger:
          directories:
            keys: {STORAGE}/keys
            values: {STORAGE}/values
          ephemeral: false
          consistency: true
receivers:
  otlp:
    protocols:
      http:
        endpoint: 0.0.0.0:{OTLP}
exporters:
  jaeger_storage_exporter:
    trace_storage: on_disk
"""


class Queries:
    """What a Jaeger has, asked at that port of this host."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port

    def find(self, trace_id: str) -> dict[str, Any] | None:
        """The trace as the query API v3 gives it (OTLP as JSON); None when it has no such trace.

        Raises AssertionError for any other answer and OSError while it is stopped.
        """
        return self._get(f"/api/v3/traces/{trace_id}")

    def find_all(self, service: str) -> list[Span]:
        """All spans of a service's traces that began from 2021 to 2040."""
        asked = urlencode(
            {
                "query.service_name": service,
                "query.start_time_min": "2021-01-01T00:00:00Z",
                "query.start_time_max": "2041-01-01T00:00:00Z",
                "query.num_traces": "90000",
            }
        )
        found = self._get(f"/api/v3/traces?{asked}")
        return [] if found is None else spans_of(found)

    def _get(self, path: str) -> dict[str, Any] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status == 404:
            return None
        assert response.status == 200, (response.status, text[:2000])
        return dict(json.loads(text)["result"])

    def wait_for(self, trace_id: str, *, spans: int = 1, seconds: float = 20.0) -> dict[str, Any]:
        """The trace, once it has at least so many spans; fails after `seconds`."""

        def found() -> dict[str, Any]:
            trace = self.find(trace_id) or {}
            return trace if len(spans_of(trace)) >= spans else {}

        return eventually(found, seconds=seconds, what=f"{spans} spans of {trace_id} in Jaeger")


class Jaeger(Queries):
    """One Jaeger that begins empty; with `storage="badger"` it keeps its traces over a stop."""

    def __init__(
        self,
        ground: Ground,
        image: str,
        folder: Path,
        *,
        storage: Literal["memory", "badger"] = "memory",
    ) -> None:
        super().__init__(lambda: self._service.ports[QUERY])
        files, kept = folder / "jaeger" / "files", folder / "jaeger" / "storage"
        files.mkdir(parents=True)
        kept.mkdir()
        (files / "config.yaml").write_text(ON_DISK)
        self._service = Service(
            ground,
            image,
            [] if storage == "memory" else ["--config", f"{FILES}/config.yaml"],
            (OTLP, QUERY),
            alias="jaeger",
            environ={"JAEGER_LISTEN_HOST": "0.0.0.0", "OTEL_TRACES_SAMPLER": "always_off"},
            volumes={files: FILES, kept: STORAGE},
        )

    @property
    def endpoint(self) -> str:
        """Its traces URL as this host reaches it; other containers use `http://jaeger:4318`."""
        return f"http://127.0.0.1:{self._service.ports[OTLP]}/v1/traces"

    def start(self) -> Self:
        """Start it, at the same endpoint if it ran before, and wait until it takes and shows."""
        self._service.start()
        self._service.wait_until("POST", "/v1/traces", OTLP, (200,))
        self._service.wait_until("GET", NOWHERE, QUERY, (200, 404))
        return self

    def stop(self) -> None:
        """Stop it by SIGTERM: in memory it forgets, on disk it does not."""
        self._service.stop()

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


def spans_of(trace: dict[str, Any]) -> list[Span]:
    """All spans of a trace, in the order in which they stand."""
    return [
        span
        for resource in trace.get("resourceSpans", [])
        for scope in resource.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]
