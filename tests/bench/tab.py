"""A tab of the page as a process of its own: its event stream, and a screen once a second.

A browser does the same (`relay/page/static/page.js`); what it paints costs the relay nothing. Ended
by SIGTERM, it prints how long each screen took, in milliseconds.
"""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from tests.bench.processes import LOAD_CORE, start

SCREENS: Final = ("/page/flow", "/page/traces")
EVERY_SECONDS: Final = 1.0


class Tab:
    """One that is open until `close`."""

    def __init__(self, port: int, token_file: Path, folder: Path) -> None:
        self._told = folder / "tab.json"
        self._process: subprocess.Popen[bytes] = start(
            [sys.executable, "-m", "tests.bench.tab", str(port), str(token_file), str(self._told)],
            LOAD_CORE,
        )

    def close(self) -> list[float]:
        """How long each screen took, in milliseconds."""
        self._process.terminate()
        self._process.wait()
        found: list[float] = json.loads(self._told.read_text())
        return found


def main(port: int, token_file: Path, told: Path) -> None:
    """Look until SIGTERM."""
    ends = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ends.set()

    signal.signal(signal.SIGTERM, end)
    headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    threading.Thread(target=_listen, args=(port, headers), daemon=True).start()
    took: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not ends.is_set():
        for screen in SCREENS:
            began = time.monotonic()
            connection.request("GET", screen, headers=headers)
            response = connection.getresponse()
            response.read()
            if response.status != http.client.OK:
                raise SystemExit(f"{screen} was answered {response.status}")
            took.append((time.monotonic() - began) * 1e3)
        ends.wait(EVERY_SECONDS)
    told.write_text(json.dumps(took))


def _listen(port: int, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/api/view/events", headers=headers)
    response = connection.getresponse()
    while response.readline():
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
