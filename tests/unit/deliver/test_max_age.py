"""How old a row is, for `max_age`: by the buffer's word, which no jump of a clock changes."""

from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from relay.buffer.sqlite.backlog import Backlog
from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.deliver.courier import Courier
from relay.upstream.outcomes import Delivered, Outcome
from tests.support.builders import request as otlp
from tests.support.builders import span, to_body
from tests.unit.buffer.making import Clocks, opened, piece, request

pytestmark = pytest.mark.anyio
YEARS_NS = 20 * 365 * 86_400 * 10**9


class Upstream:
    """Takes everything, so many requests at once."""

    def __init__(self, at_once: int = 1) -> None:
        self.spans = 0
        self._missing = at_once
        self._are_there = anyio.Event()

    def update(self, settings: DestinationConfig) -> None:
        pass

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self._missing -= 1
        if self._missing <= 0:
            self._are_there.set()
        await self._are_there.wait()
        self.spans += batch.items
        return Delivered(200)

    def renew(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def until_nothing_is_owed(backlog: Backlog) -> None:
    with anyio.fail_after(10):
        while backlog.statistics().owed_items:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("jump_ns", "passed_seconds", "sent"),
    [(YEARS_NS, 60, 1), (-YEARS_NS, 60, 1), (YEARS_NS, 7200, 0), (-YEARS_NS, 7200, 0)],
    ids=["young, forth", "young, back", "old, forth", "old, back"],
)
async def test_only_time_that_passed_makes_a_row_too_old(
    tmp_path: Path, jump_ns: int, passed_seconds: float, sent: int
) -> None:
    clocks = Clocks()
    upstream = Upstream()
    settings = DestinationConfig(
        name="a", endpoint="http://127.0.0.1:9/v1/traces", max_age_seconds=3600.0
    )
    body = to_body(otlp(span())["resourceSpans"][0])
    async with opened(tmp_path, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        await buffer.append(request(piece(body), received_ns=clocks.now_ns))
        clocks.now_ns += jump_ns
        clocks.pass_seconds(passed_seconds)
        courier = Courier(
            settings, backlog, upstream, lambda _: {}, now_ns=clocks.wall, age_ns=buffer.age_ns
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(courier.run)
            await until_nothing_is_owed(backlog)
            await courier.stop()
        await buffer.flush()
        reasons = [stored.letter.reason for stored in await buffer.dead_letters.newest()]

    assert upstream.spans == sent
    assert reasons == ["too_old"] * (1 - sent)


@pytest.mark.parametrize("jump_ns", [YEARS_NS, -YEARS_NS], ids=["forth", "back"])
async def test_lanes_go_on_when_the_wall_clock_jumps(tmp_path: Path, jump_ns: int) -> None:
    clocks = Clocks()
    upstream = Upstream(at_once=3)
    settings = DestinationConfig(
        name="a",
        endpoint="http://127.0.0.1:9/v1/traces",
        max_age_seconds=3600.0,
        max_batch_items=1,
        concurrency=3,
    )
    body = to_body(otlp(span())["resourceSpans"][0])
    async with opened(tmp_path, row_bytes=1, clock_ns=clocks.wall, uptime=clocks.uptime) as buffer:
        backlog = buffer.consumer("a")
        for _ in range(8):
            await buffer.append(request(piece(body), received_ns=clocks.now_ns))
        clocks.now_ns += jump_ns
        courier = Courier(
            settings,
            backlog,
            upstream,
            lambda _: {},
            make_upstream=lambda _: upstream,
            now_ns=clocks.wall,
            age_ns=buffer.age_ns,
            pace_seconds=0,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(courier.run)
            # With fewer at once it takes none.
            await until_nothing_is_owed(backlog)
            await courier.stop()

    assert upstream.spans == 8
