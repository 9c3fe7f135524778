"""A real Arize Phoenix from its package, run as a process: started, asked what it has, ended.

`python -m tests.e2e.phoenix` makes its environment, once for each lock, under
`~/.cache/otlp-relay/phoenix`.
"""

import http.client
import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.environments import ENVIRON, environment
from tests.support.ports import free_port
from tests.support.relay_process import eventually


class Phoenix:
    """One Phoenix on free ports, with a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it takes traces."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def trace_ids(self) -> set[str]:
        """The traces of its default project."""
        status, found = self._get("/v1/projects/default/spans?limit=100")
        return {span["context"]["trace_id"] for span in found["data"]} if status == 200 else set()

    def _get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text.startswith(b"{") else None
        finally:
            connection.close()

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "phoenix has ended"
        try:
            return self._get("/healthz")[0] == 200
        except OSError:
            return False

    def __enter__(self) -> Self:
        settings = {
            "PHOENIX_WORKING_DIR": str(self._folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        self._process = subprocess.Popen(
            [str(environment("phoenix") / "bin/phoenix"), "serve"], env={**ENVIRON, **settings}
        )
        eventually(self._is_up, seconds=50, what="Phoenix")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)


if __name__ == "__main__":
    print(f"phoenix: {environment('phoenix')}")
