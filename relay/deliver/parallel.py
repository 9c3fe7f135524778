"""A backlog in, further requests beside the main loop's out, while all goes well.

A lane does nothing but take, send and settle what was delivered. Whatever else happens, it gives
its rows back and ends: the main loop meets the same trouble and deals with it alone.
"""

from collections.abc import Callable

import anyio
import structlog
from anyio.abc import TaskGroup

from relay.deliver.batch_limits import raw_bytes
from relay.deliver.interfaces import Exchanges
from relay.deliver.sender import Dispatch, Terms
from relay.model.records import StoredRow, Taken
from relay.upstream import outcomes
from relay.upstream.settings import DestinationSettings

log = structlog.stdlib.get_logger(__name__)


class Lanes:
    """The extra lanes of one courier. `make_upstream` gives each a connection of its own.

    `age_ns` is how long ago a row was received.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        make_upstream: Callable[[DestinationSettings], Exchanges] | None,
        may_go_on: Callable[[], bool],
        age_ns: Callable[[StoredRow], int],
    ) -> None:
        self._dispatch = dispatch
        self._age_ns = age_ns
        self._make_upstream = make_upstream
        self._may_go_on = may_go_on
        self._tasks: TaskGroup | None = None
        self._open = 0
        self._is_closing = False
        self._terms: Terms | None = None
        self._ended = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()

    def start(self, tasks: TaskGroup) -> None:
        """Lanes are to run in `tasks`."""
        self._tasks = tasks

    def open(self, taken: Taken, terms: Terms) -> None:
        """Open as many lanes as the settings allow, if `taken` filled a request and more is owed.

        What was taken tells: at half of the limits the next row may have been too large.
        """
        if terms.settings.concurrency <= 1 or self._make_upstream is None or self._tasks is None:
            return
        is_full = (
            raw_bytes(taken) * 2 >= terms.reach.max_bytes
            or taken.spans * 2 >= terms.reach.max_spans
        )
        if not is_full or not self._dispatch.backlog.has_more:
            return
        self._is_closing = False
        self._terms = terms
        while self._open < terms.settings.concurrency - 1:
            self._open += 1
            self._tasks.start_soon(self._run, terms, self._make_upstream(terms.settings))

    def close_soon(self) -> None:
        """Let every lane end after its request."""
        self._is_closing = True

    async def close(self) -> None:
        """As `close_soon`; returns when they have ended."""
        self.close_soon()
        while self._open:
            await self._ended.wait()

    def cut_off(self) -> None:
        """Give back what every lane has in flight, now."""
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, terms: Terms, upstream: Exchanges) -> None:
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                while await self._turn(terms, upstream):
                    await anyio.lowlevel.checkpoint()
        except Exception as error:  # noqa: BLE001 - the others go on
            # The main loop comes to the same rows, and says what is wrong with them.
            log.warning("lane_ended", destination=terms.settings.name, error=type(error).__name__)
        finally:
            self._open -= 1
            self._scopes.discard(scope)
            ended, self._ended = self._ended, anyio.Event()
            ended.set()
            with anyio.CancelScope(shield=True):
                await upstream.aclose()

    async def _turn(self, terms: Terms, upstream: Exchanges) -> bool:
        """One request; whether to go on."""
        if self._is_closing or terms is not self._terms or not self._may_go_on():
            return False
        backlog = self._dispatch.backlog
        taken = await backlog.take(
            max_bytes=terms.reach.max_bytes,
            max_spans=terms.reach.max_spans,
            one_encoding=terms.settings.encoding == "auto",
        )
        if taken is None:
            return False
        is_settled = False
        try:
            max_age = terms.settings.max_age_seconds
            is_young = max_age is None or self._age_ns(taken.rows[0]) <= max_age * 1e9
            if is_young and not terms.reach.is_too_large(taken):
                encoding = terms.encoding_of(taken)
                attempt = await self._dispatch.attempt(taken, encoding, terms, upstream)
                if isinstance(attempt.outcome, outcomes.Delivered):
                    await self._dispatch.settle(attempt, terms)
                    is_settled = True
        finally:
            if not is_settled:
                backlog.give_back(taken)
        return is_settled
