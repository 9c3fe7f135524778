"""A request's body in, the sender's answer out: check → enrich → append, then 200 means kept."""

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from relay.check import AllSpansRejected, Check
from relay.counters import Counters
from relay.enrich import Enrich
from relay.records import Answer, Encoding, Request, Sender

log = structlog.stdlib.get_logger(__name__)

# A row on disk holds whole requests up to this; a larger request is cut at span borders.
ROW_BYTES = 512 * 1024

OK = Answer()


class Log(Protocol):
    """What the way in needs of the buffer."""

    async def append(self, request: Request) -> None:
        """Return once `request` is committed and synced; raise BufferError_ otherwise."""


class Pipeline:
    """The way in. One instance serves all requests; a reload replaces `check` and `enrich`."""

    def __init__(
        self,
        check: Check,
        enrich: Enrich,
        log: Log,
        counters: Counters,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.check = check
        self.enrich = enrich
        self._log = log
        self._counters = counters
        self._clock_ns = clock_ns

    async def accept(self, body: bytes, encoding: Encoding, sender: Sender) -> Answer:
        """Keep what is valid of `body` and say so.

        Raises Refusal when nothing can be taken (400), and BufferFull or BufferUnavailable when
        it cannot be kept now (503); then nothing of the request was kept.
        """
        counters = self._counters
        if sender.is_connection_test:
            counters.last_connection_test_ns = self._clock_ns()
        try:
            checked = self.check(body, encoding)
        except AllSpansRejected as refusal:
            self._count_rejected(refusal)
            await self._log.append(
                Request((), sender, self._clock_ns(), refusal.rejected)
            )  # as dead letters, so that `where` and replay know them
            raise
        for code, times in checked.warnings.items():
            counters.warnings[code] += times
        if checked.spans:
            self.enrich(checked.traces, sender)
            pieces = checked.traces.pieces(ROW_BYTES)
            await self._log.append(Request(pieces, sender, self._clock_ns(), checked.rejected))
            counters.received_spans += checked.spans
            counters.kept_spans += checked.spans
            log.debug(
                "request_kept",
                spans=checked.spans,
                encoding=encoding.name.lower(),
                bytes=len(body),
                services=", ".join(pieces[0].services),
                sender=sender.address,
            )
        if not checked.rejected and not checked.warnings:
            return OK
        log.debug("request_flawed", rejected=len(checked.rejected), message=checked.message())
        counters.received_spans += len(checked.rejected)
        for rejected in checked.rejected:
            counters.rejected_spans[rejected.reason] += 1
        return Answer(message=checked.message(), rejected_spans=len(checked.rejected))

    def _count_rejected(self, refusal: AllSpansRejected) -> None:
        self._counters.received_spans += len(refusal.rejected)
        for rejected in refusal.rejected:
            self._counters.rejected_spans[rejected.reason] += 1
