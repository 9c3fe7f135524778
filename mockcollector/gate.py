"""Requests that must wait in, released by a test or by the end of the collector out.

All of it runs in the collector's event loop; `MockCollector` brings calls from other threads there.
"""

import asyncio


class Gate:
    """Holds requests back until `release`. After `close` nothing is held back any more."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_closed = False
        self._followers: list[Gate] = []

    @property
    def current(self) -> asyncio.Event:
        """Set by the next `release`. Take it before the first await, else a release is missed."""
        return self._event

    def release(self) -> None:
        """Let everything that waits now go on; what comes later waits again."""
        self._event.set()
        if not self.is_closed:
            self._event = asyncio.Event()

    def close(self) -> None:
        """Let everything go on, for good."""
        self.is_closed = True
        self.release()
        for follower in self._followers:
            follower.close()

    def follower(self) -> "Gate":
        """A gate with releases of its own that closes with this one."""
        made = Gate()
        if self.is_closed:
            made.close()
        self._followers.append(made)
        return made

    async def wait_until_closed(self) -> None:
        """Return once nothing is held back any more."""
        while not self.is_closed:
            await self._event.wait()
