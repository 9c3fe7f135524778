"""The way in as one line: prepare (check → enrich → cut) → append → answer. 200 means kept."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import structlog

from relay.ingest.offload.offload import Offload
from relay.model.counters import Counters
from relay.model.errors import BufferFailure, Refusal, TooHeavy
from relay.model.records import (
    SUCCESS,
    Encoding,
    RejectedItem,
    Request,
    Sender,
    SenderResponse,
    Signal,
)
from relay.process.check.rejections import AllItemsRejected, unreadable_body
from relay.process.check.weight import NEVER_HEAVY_BYTES, is_heavy
from relay.process.prepare import Prepare, Prepared

if TYPE_CHECKING:
    from relay.process.before_kept import BeforeKept

log = structlog.stdlib.get_logger(__name__)

# Larger bodies are decoded one in each turn of the event loop: each takes up to some 10 ms, and
# others should not wait for all that have just arrived.
QUICK_BYTES = 128 * 1024
_NOTE_SECONDS = 60.0


class Appender(Protocol):
    """What the way in needs of the buffer."""

    async def append(self, request: Request) -> None:
        """Return once `request` is committed and synced; raise BufferFailure otherwise."""


class Pipeline:
    """The way in. One instance serves all requests; a reload replaces `prepare` and `before_kept`.

    `offload` takes the bodies that would hold up the event loop; without one they do.
    """

    def __init__(
        self,
        prepare: Prepare,
        log: Appender,
        counters: Counters,
        *,
        offload: Offload | None = None,
        before_kept: "BeforeKept | None" = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.prepare = prepare
        self.before_kept = before_kept
        self._log = log
        self._counters = counters
        self._offload = offload
        self._clock_ns = clock_ns
        self._tells_each = _is_debugging()
        self._turn = asyncio.Lock()
        self._next_note = 0.0

    async def accept(
        self, body: bytes, encoding: Encoding, sender: Sender, signal: Signal = Signal.TRACES
    ) -> SenderResponse:
        """Keep what is valid of `body` and say so.

        Raises Refusal when nothing can be taken (400, or 413 when it takes more to decode it than
        there is), and BufferFull or BufferUnavailable when it cannot be kept now (503), or Refusal
        likewise; then nothing of the request was kept.
        """
        counters = self._counters
        if sender.is_connection_test:
            counters.last_connection_test_ns = self._clock_ns()
        try:
            if len(body) <= NEVER_HEAVY_BYTES:
                prepared = self.prepare(body, encoding, sender, signal=signal)
            else:
                prepared = await self._prepare(body, encoding, sender, signal)
            if self.before_kept is not None:
                prepared, counts = await self.before_kept.prepared(prepared)
                counters.process(signal, counts)
        except AllItemsRejected as refusal:
            # As dead letters, so that `where` and replay know them. Counted once they are kept: a
            # sender that is answered 503 sends them again.
            seen = self._seen(refusal.rejected)
            await self._log.append(Request((), sender, self._clock_ns(), seen))
            counters.reject(signal, refusal.counts)
            raise
        except Refusal as refusal:
            if refusal.status == 400:
                await self.keep_unreadable(body, encoding, sender, refusal.message, signal)
            raise
        body_bytes = len(body)
        del body  # what is kept of it is in the pieces
        if prepared.items or prepared.rejected:
            pieces = prepared.pieces
            now_ns = self._clock_ns()
            await self._log.append(Request(pieces, sender, now_ns, prepared.rejected))
            counters.last_kept_ns = now_ns
            counters.received_items[signal] += prepared.items
            counters.kept_items[signal] += prepared.items
            if self._tells_each and pieces:
                log.debug(
                    "request_kept",
                    signal=signal.word,
                    spans=prepared.items,
                    encoding=encoding.name.lower(),
                    bytes=body_bytes,
                    services=", ".join(pieces[0].services),
                    sender=sender.address,
                )
        for code, times in prepared.warnings.items():
            counters.warnings[signal, code] += times
        if not prepared.message:
            return SUCCESS
        rejected = sum(prepared.rejected_by_reason.values())
        log.debug("request_flawed", signal=signal.word, rejected=rejected, message=prepared.message)
        if not prepared.items:
            self._note_nothing(sender, signal, prepared.message)
        counters.reject(signal, prepared.rejected_by_reason)
        return SenderResponse(message=prepared.message, rejected_items=rejected)

    async def keep_unreadable(
        self,
        body: bytes,
        encoding: Encoding,
        sender: Sender,
        why: str,
        signal: Signal,
    ) -> None:
        """As a dead letter, so that somebody can look at it; the answer is the same without."""
        rejected = self._seen((unreadable_body(body, encoding, why, signal),))
        with suppress(BufferFailure):
            await self._log.append(Request((), sender, self._clock_ns(), rejected))

    def _seen(self, rejected: tuple[RejectedItem, ...]) -> tuple[RejectedItem, ...]:
        """What dead letters may hold of it."""
        return rejected if self.before_kept is None else self.before_kept.rejected(rejected)

    def _note_nothing(self, sender: Sender, signal: Signal, message: str) -> None:
        """Log once a minute that something came of which nothing could be kept."""
        now = time.monotonic()
        if now >= self._next_note:
            self._next_note = now + _NOTE_SECONDS
            log.warning(
                "request_held_nothing", signal=signal.word, sender=sender.address, message=message
            )

    async def _prepare(
        self, body: bytes, encoding: Encoding, sender: Sender, signal: Signal
    ) -> Prepared:
        """Prepare here, or in the offload process what would take too long here."""
        offload = self._offload
        if offload is None:
            return self.prepare(body, encoding, sender, signal=signal)
        if not is_heavy(body, encoding):
            with suppress(TooHeavy):
                if len(body) <= QUICK_BYTES:
                    return self.prepare(body, encoding, sender, signal=signal, is_bounded=True)
                async with self._turn:
                    await asyncio.sleep(0)  # those behind it meet a lock that is taken, and wait
                    return self.prepare(body, encoding, sender, signal=signal, is_bounded=True)
        return await offload.prepare(self.prepare.settings, body, encoding, sender, signal)


def _is_debugging() -> bool:
    """To be asked once: an event that nobody is told of costs more than everything in `accept`."""
    return bool(log.is_enabled_for(logging.DEBUG))
