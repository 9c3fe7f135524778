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
        self._since: dict[asyncio.Future[None], float] = {}
        self._is_looking = False

    async def wait(self, answer: "asyncio.Future[None]") -> None:
        """Await `answer`, but no longer than a sender would: then raise BufferUnavailable.

        If the disk is at this request just then, it may be kept all the same. The sender retries,
        so it is kept twice: at least once is the promise.
        """
        loop = answer.get_loop()
        self._since[answer] = loop.time()
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        try:
            await answer
        finally:
            del self._since[answer]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for answer, since in self._since.items():
            if now - since < self._patience_seconds:
                break
            if not answer.done():
                words = f"the disk did not accept this request within {now - since:.0f} s; retry"
                answer.set_exception(BufferUnavailable(words))
        self._is_looking = bool(self._since)
        if self._is_looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)


def stalled(seconds: float) -> str:
    """The sentence for senders, `/readyz` and the status line."""
    return f"the disk has not finished a write for {seconds:.0f} s"
