"""A program of the tests in a process of its own, which tells what it saw when it is to end.

Its own, since a test that floods a relay from threads waits for its own interpreter's lock. The
program writes a line once it has begun, goes on until its standard input ends, and then writes
what it found as JSON.
"""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class Beside:
    """Runs `module` with `arguments`; a context manager. `take` is told what it found."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._command = [sys.executable, "-m", module, *map(str, arguments)]

    def take(self, found: dict[str, Any]) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has begun
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        out, _ = self._process.communicate(timeout=60)
        self.take(json.loads(out))
