"""One courier under way from a real buffer to an upstream in this process, by its own clock."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from relay.buffer.sqlite.buffer import Buffer
from relay.config import DestinationConfig
from relay.deliver.courier import Courier
from relay.deliver.sender import Exchanges
from relay.model.records import DeadLetter, Request
from tests.unit.buffer.making import NOW_NS, opened


class Clock:
    """Sleeping takes next to no time, but moves the clock; `most` sleeps in all."""

    def __init__(self, most: int = 10**9) -> None:
        self.now_ns = NOW_NS
        self.sleeps: list[float] = []
        self.most = most
        self.is_spent = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_ns += int(seconds * 1e9)
        if len(self.sleeps) >= self.most:
            self.is_spent.set()
            await anyio.sleep_forever()
        await anyio.sleep(0.001)  # others get their turn


class InProcess:
    """What an upstream without a connection has nothing to do for."""

    def update(self, settings: DestinationConfig) -> None:
        pass

    def renew(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Case:
    """A courier under way."""

    def __init__(
        self, buffer: Buffer, terms: DestinationConfig, courier: Courier, clock: Clock
    ) -> None:
        self.buffer = buffer
        self.terms = terms
        self.courier = courier
        self.clock = clock
        self.backlog = buffer.consumer(terms.name, signal=terms.signal)

    async def done(self) -> None:
        """Nothing is owed any more."""
        with anyio.fail_after(30):
            while self.backlog.statistics().owed_items:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.002)

    async def letters(self) -> list[DeadLetter]:
        await self.buffer.flush()
        return [stored.letter for stored in await self.buffer.dead_letters.newest(1000)]


@asynccontextmanager
async def delivering(
    state_dir: Path,
    terms: DestinationConfig,
    requests: Iterable[Request],
    upstream: Exchanges,
    *,
    clock: Clock | None = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncIterator[Case]:
    """The courier of `terms`, begun when all of `requests` are kept."""
    clock = clock or Clock()
    async with opened(state_dir, clock_ns=lambda: clock.now_ns) as buffer:
        backlog = buffer.consumer(terms.name, signal=terms.signal)
        for each in requests:
            await buffer.append(each)
        courier = Courier(
            terms,
            backlog,
            upstream,
            lambda _: {},
            make_upstream=lambda _: upstream,
            now_ns=lambda: clock.now_ns,
            monotonic=lambda: clock.now_ns / 1e9,
            sleep=sleep or clock.sleep,
            random=lambda: 0.5,
            pace_seconds=0.0,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(courier.run)
            yield Case(buffer, terms, courier, clock)
            await courier.stop()
