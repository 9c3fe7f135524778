"""Refuses requests that wait too long for their commit, before their senders give up.

A sender gives up by itself after about ten seconds, and then nobody has told it to retry. One
timer for all, and only while somebody waits: a timeout each would cost every request.
"""

import asyncio

from relay.model.errors import BufferUnavailable

_LOOK_SECONDS = 0.5


class AppendTimeout:
    """Who waits since when, the oldest first."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self.since: dict[asyncio.Future[None], float] = {}
        self._is_looking = False

    def watch(self, waiter: "asyncio.Future[None]") -> None:
        """Let `waiter` wait no longer than a sender would: then it raises BufferUnavailable.

        It must be taken from `since` when it is done. If the disk is at its request just then, that
        may be kept all the same. The sender retries, so it is kept twice: at least once is the
        promise.
        """
        loop = waiter.get_loop()
        self.since[waiter] = loop.time()
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for waiter, since in self.since.items():
            if now - since < self._patience_seconds:
                break
            if not waiter.done():
                words = f"the disk did not accept this request within {now - since:.0f} s; retry"
                waiter.set_exception(BufferUnavailable(words))
        self._is_looking = bool(self.since)
        if self._is_looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)


def stalled(seconds: float) -> str:
    """The sentence for senders, `/readyz` and the status line."""
    return f"the disk has not finished a write for {seconds:.0f} s"
