"""`python -m tests.support.loop_watch serve …`: the relay, and how long a round of its loop takes.

CPU seconds of the loop's own thread, not time: what else the machine does is not the relay's fault,
so this can be asserted closely where answers in milliseconds cannot. A file has the longest so far,
and how many were long: a machine whose processors are shared stalls a single one now and then.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from relay.cli import main

FILE = "LOOP_WATCH_FILE"  # the environment variable that names it
PAUSE_SECONDS = 0.001  # between two looks: else the loop would never wait
LONG_SECONDS = 0.06  # three times what is usual under a flood


class Rounds(NamedTuple):
    """What was seen: CPU seconds of the longest, and how many took more than `LONG_SECONDS`."""

    longest: float
    long: int


def seen(file: Path) -> Rounds:
    """Of the relay that was told to write `file`."""
    return Rounds(*json.loads(file.read_text()))


class _Watch:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._began = time.thread_time()
        self._rounds = Rounds(-1.0, 0)

    def tick(self) -> None:
        """Look how much was used since the last look: no round lies between two looks."""
        now = time.thread_time()
        seconds, self._began = now - self._began, now
        longest, long = self._rounds
        rounds = Rounds(max(longest, seconds), long + (seconds > LONG_SECONDS))
        if rounds != self._rounds:
            self._rounds = rounds
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(rounds))
            new.replace(self._file)
        self._loop.call_later(PAUSE_SECONDS, self.tick)


def _watched(run: Callable[..., Any], file: Path) -> Callable[..., Any]:
    def run_watched(call: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        async def called(*given: Any) -> Any:
            _Watch(file).tick()
            return await call(*given)

        return run(called, *args, **options)

    return run_watched


if __name__ == "__main__":
    anyio.run = _watched(anyio.run, Path(os.environ[FILE]))  # type: ignore[assignment]
    main(prog_name="otlp-relay")
