"""A tab of the page as a process of its own: its event stream, and its screens once a second.

A browser does the same (`relay/page/static/page.js`); what it paints costs the relay nothing. Ended
by SIGTERM, it prints how long each screen took, each time in milliseconds.
"""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from tests.bench.processes import LOAD_CORE, start

# Those that the page asks for again by itself when something comes.
LIVE_SCREENS: Final = ("/page/flow", "/page/traces")
ALL_SCREENS: Final = (
    *LIVE_SCREENS,
    "/page/traces?q=e",  # in every name
    "/page/traces/ID",
    "/page/logs",
    "/page/metrics-view",
    "/page/genai",
    "/page/rejected",
    "/page/setup",
    "/page/destinations/up0",
)
EVERY_SECONDS: Final = 1.0


class Tab:
    """One that is open until `close`; `ID` in a screen stands for the newest trace."""

    def __init__(self, port: int, token_file: Path, folder: Path, screens: Sequence[str]) -> None:
        self._told = folder / "tab.json"
        self._process: subprocess.Popen[bytes] = start(
            [
                *(sys.executable, "-m", "tests.bench.tab"),
                *(str(port), str(token_file), str(self._told), *screens),
            ],
            LOAD_CORE,
        )

    def close(self) -> dict[str, list[float]]:
        """How long each screen took, in milliseconds."""
        self._process.terminate()
        self._process.wait()
        found: dict[str, list[float]] = json.loads(self._told.read_text())
        return found


def main(port: int, token_file: Path, told: Path, screens: Sequence[str]) -> None:
    """Look until SIGTERM."""
    ends = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ends.set()

    signal.signal(signal.SIGTERM, end)
    headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    threading.Thread(target=_listen, args=(port, headers), daemon=True).start()
    took: dict[str, list[float]] = {screen: [] for screen in screens}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not ends.is_set():
        newest = json.loads(_asked(connection, "/api/view/traces?limit=1", headers))["traces"]
        for screen in screens:
            path = screen.replace("ID", newest[0]["trace_id"] if newest else "0" * 32)
            began = time.monotonic()
            _asked(connection, path, headers)
            took[screen].append((time.monotonic() - began) * 1e3)
        ends.wait(EVERY_SECONDS)
    told.write_text(json.dumps(took))


def _asked(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        raise SystemExit(f"{path} was answered {response.status}")
    return body


def _listen(port: int, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/api/view/events", headers=headers)
    response = connection.getresponse()
    while response.readline():
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
