"""Changes in; threads and tasks that wait for something to be so woken out.

Nothing here polls, and nobody is woken in vain: what somebody waits for is looked at under the lock
whenever something has changed, by whoever changed it. So it must be cheap to look at.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Watched:
    """A lock around something that changes, and the means to wait until it has changed enough."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiters: dict[object, tuple[Callable[[], bool], Callable[[], None]]] = {}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock to look."""
        with self._lock:
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock to change something, then wake those for whom it is enough."""
        with self._lock:
            yield
            for is_done, wake in self._waiters.values():
                if is_done():
                    wake()

    def wait(self, is_done: Callable[[], bool], timeout: float) -> None:
        """Block until it is done, or for `timeout` seconds: the caller looks which."""
        done = threading.Event()
        with self._waiting(is_done, done.set):
            done.wait(timeout)

    async def wait_async(self, is_done: Callable[[], bool], timeout: float) -> None:
        """The same, leaving the event loop (asyncio) free."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def wake() -> None:
            # A loop that is closed meanwhile has nobody waiting any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        with self._waiting(is_done, wake), suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await done.wait()

    @contextmanager
    def _waiting(self, is_done: Callable[[], bool], wake: Callable[[], None]) -> Iterator[None]:
        key = object()
        with self._lock:
            self._waiters[key] = is_done, wake
            if is_done():
                wake()
        try:
            yield
        finally:
            with self._lock:
                del self._waiters[key]
