"""Further requests beside the courier's own, while more is owed than one holds and all goes well.

Each does nothing but take, send and settle what was delivered, over a connection of its own.
Whatever else happens, it gives its rows back and ends: the courier meets the same trouble and deals
with it alone.
"""

from collections.abc import Callable

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup

from relay.config import DestinationConfig
from relay.deliver.learnt import Learnt, raw_bytes
from relay.deliver.sender import SETTLED, BatchSender, Exchanges
from relay.model.records import Taken

log = structlog.stdlib.get_logger(__name__)


class Parallel:
    """The extra requests of one destination. `make_upstream` makes the connections."""

    def __init__(
        self, sender: BatchSender, make_upstream: Callable[[DestinationConfig], Exchanges] | None
    ) -> None:
        self._sender = sender
        self._consumer = sender.consumer
        self._make_upstream = make_upstream
        self._tasks: TaskGroup | None = None
        self._open, self._is_closing = 0, False
        self._ended = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """They are to run in `tasks`."""
        self._tasks = tasks

    def open(self, taken: Taken) -> None:
        """Begin as many as the settings allow, if `taken` filled a request and more is owed.

        What was taken tells: at half of the limits the next row may have been too large.
        """
        learnt = self._sender.learnt
        if self._make_upstream is None or self._tasks is None:
            return
        is_full = (
            raw_bytes(taken) * 2 >= learnt.limits.max_bytes
            or taken.items * 2 >= learnt.limits.max_items
        )
        if not is_full or not self._consumer.has_more:
            return
        self._is_closing = False
        while self._open < learnt.settings.concurrency - 1:
            self._open += 1
            self._tasks.start_soon(self._run, learnt, self._make_upstream(learnt.settings))

    def close_soon(self) -> None:
        """Let each end after its request."""
        self._is_closing = True

    async def close(self) -> None:
        """As `close_soon`; returns when they have ended."""
        self.close_soon()
        while self._open:
            await self._ended.wait()

    async def _run(self, learnt: Learnt, upstream: Exchanges) -> None:
        try:
            while await self._turn(learnt, upstream):
                await anyio.lowlevel.checkpoint()
        except Exception as error:  # noqa: BLE001 - the others go on
            # The courier comes to the same rows, and says what is wrong with them.
            log.warning(
                "lane_ended",
                destination=learnt.settings.name,
                signal=learnt.settings.signal.word,
                error=type(error).__name__,
            )
        finally:
            self._open -= 1
            ended, self._ended = self._ended, anyio.Event()
            ended.set()
            with anyio.CancelScope(shield=True):
                await upstream.aclose()

    async def _turn(self, learnt: Learnt, upstream: Exchanges) -> bool:
        """One request; whether to go on."""
        if self._is_closing or learnt is not self._sender.learnt or not self._sender.may_go_on:
            return False
        taken = await self._consumer.take(
            max_bytes=learnt.limits.max_bytes,
            max_items=learnt.limits.max_items,
            one_encoding=learnt.settings.encoding == "auto",
        )
        if taken is None:
            return False
        is_settled = False
        try:
            # Not over a connection that was made for settings of before.
            if (
                learnt is self._sender.learnt
                and not self._sender.is_old(taken.rows[0])
                and not learnt.limits.is_too_large(taken)
            ):
                attempt = await self._sender.send(taken, upstream=upstream)
                if isinstance(attempt.outcome, SETTLED):
                    await self._sender.settle(attempt)
                    is_settled = True
        finally:
            if not is_settled:
                self._consumer.give_back(taken)
        return is_settled
