"""Changes in; threads and tasks that wait for something to be so woken out.

Nothing here polls: a waiting thread sleeps on a condition, a waiting task on an event.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Watched:
    """A lock around something that changes, and the means to wait until it has changed enough."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wakers: set[Callable[[], None]] = set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock to look."""
        with self._changed:
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock to change something, then wake everybody who waits."""
        with self._changed:
            yield
            self._changed.notify_all()
            for wake in self._wakers:
                wake()

    def wait(self, is_done: Callable[[], bool], timeout: float) -> None:
        """Block until it is done, or for `timeout` seconds: the caller looks which."""
        with self._changed:
            self._changed.wait_for(is_done, timeout)

    async def wait_async(self, is_done: Callable[[], bool], timeout: float) -> None:
        """The same, leaving the event loop (asyncio) free."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            # A loop that is closed meanwhile has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._wakers.add(wake)
        try:
            async with asyncio.timeout(timeout):
                while not self._holds(is_done):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return
        finally:
            with self._changed:
                self._wakers.discard(wake)

    def _holds(self, is_done: Callable[[], bool]) -> bool:
        with self._changed:
            return is_done()
