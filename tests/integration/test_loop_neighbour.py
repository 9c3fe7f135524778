"""What shares the event loop with a dense body: its turn comes all the same."""

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

from relay.ingest.offload.offload import Offload
from relay.ingest.pipeline import Pipeline
from relay.model.counters import Counters
from relay.model.errors import Refusal
from relay.model.records import Request, Sender
from relay.otlp import native
from relay.process.prepare import Prepare, PrepareSettings
from tests.support.dense_bodies import DENSE, MOST_TIMES, seconds_of_usual_spans

pytestmark = pytest.mark.anyio
ROUNDS: Final = 4


class Kept:
    """Stands for the buffer."""

    async def append(self, request: Request) -> None:
        """All is kept at once."""


class Neighbour:
    """Asks for its turn over and over. `longest` is what the loop worked at most between two."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._is_over = False

    async def run(self) -> None:
        while not self._is_over:
            before = time.thread_time()
            await anyio.lowlevel.checkpoint()
            self.longest = max(self.longest, time.thread_time() - before)

    def end(self) -> None:
        self._is_over = True


@pytest.fixture
async def offload() -> AsyncIterator[Offload]:
    made = Offload()
    made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("native_pass", [native.MODULE, None], ids=["native", "pure"])
async def test_neighbour_of_a_dense_body_waits_for_milliseconds_only(
    offload: Offload, native_pass: Any
) -> None:
    """Points of which some are rejected are read three times; bare spans are dear in Python: such
    a body had the loop for 23 ms.
    """
    prepare = Prepare(PrepareSettings(), native_pass=native_pass)
    way = Pipeline(prepare, Kept(), Counters(), offload=offload)
    waited: dict[str, float] = {}
    usual = seconds_of_usual_spans()
    for name, (body, encoding, signal) in DENSE.items():
        longest = []
        for _ in range(ROUNDS):
            neighbour = Neighbour()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(neighbour.run)
                with suppress(Refusal):  # it may hold nothing that can be kept
                    await way.accept(body, encoding, Sender("192.0.2.1"), signal)
                neighbour.end()
            longest.append(neighbour.longest)
            usual = min(usual, seconds_of_usual_spans())
        waited[name] = min(longest)

    times = {name: seconds / usual for name, seconds in waited.items()}
    assert {name: each for name, each in times.items() if each > MOST_TIMES} == {}
