"""What a courier does between two turns: nothing, until there is something to do."""

import functools
from collections.abc import Awaitable, Callable

import anyio

from relay.deliver.parallel import Parallel
from relay.deliver.parked import Parked
from relay.deliver.sender import BatchSender

# In a steady flow small batches start at most a hundred times a second: each costs 0.1 ms of CPU,
# however few are in it. The first one after a pause goes at once.
PACE_SECONDS = 0.01
PACED_BELOW_BYTES = 256 * 1024


class Rest:
    """Pauses that a wake ends. `sleep` is given seconds."""

    def __init__(
        self,
        sender: BatchSender,
        parallel: Parallel,
        sleep: Callable[[float], Awaitable[None]],
        pace_seconds: float,
    ) -> None:
        self._sender = sender
        self._parallel = parallel
        self._sleep = sleep
        self._pace_seconds = pace_seconds
        self._scope: anyio.CancelScope | None = None

    def end(self) -> None:
        """Rest no longer."""
        if self._scope is not None:
            self._scope.cancel()

    async def until_woken(self) -> None:
        """Return when `end` is called. Nothing is sent beside the courier meanwhile."""
        self._parallel.close_soon()
        await self._rest(anyio.sleep_forever)

    async def until_next_try(self, seconds: float) -> None:
        """As `until_woken`, and after so long at the latest; the status says when that is."""
        self._parallel.close_soon()
        status = self._sender.status
        status.next_try_ns = self._sender.now_ns() + int(seconds * 1e9)
        await self._rest(functools.partial(self._sleep, seconds))
        status.next_try_ns = 0

    async def until_more(self, parked: Parked) -> None:
        """Return when there is something to take, or a parked span is to be tried."""
        await self._rest(functools.partial(self._more_or_due, parked))

    async def pace(self, delivered_bytes: int, began: float) -> None:
        """Return when the next batch may start after one of so many bytes, begun then."""
        left = began + self._pace_seconds - anyio.current_time()
        if left > 0 and delivered_bytes < PACED_BELOW_BYTES:
            await self._rest(functools.partial(self._sleep, left))

    async def _rest(self, until: Callable[[], Awaitable[None]]) -> None:
        # A wake during the request in flight came too early for it: do not sleep on it.
        if self._sender.is_nudged or self._sender.is_stopping:
            return
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                await until()
            finally:
                self._scope = None

    async def _more_or_due(self, parked: Parked) -> None:
        seconds = parked.seconds_until_due()
        if seconds is None:
            await self._sender.consumer.wait()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_up, max(seconds, 0.0), tasks.cancel_scope)
            await self._sender.consumer.wait()
            tasks.cancel_scope.cancel()

    async def _wake_up(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._sleep(seconds)
        scope.cancel()
