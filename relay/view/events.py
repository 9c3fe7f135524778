"""What happens, told to whoever watches: named events with numbers, never with contents.

Each watcher has a queue of its own. One that does not read is dropped when it is full: nobody waits
for anybody.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from relay.model.errors import RelayError

MOST_STREAMS: Final = 8
MOST_WAITING: Final = 64


class TooManyStreams(RelayError):
    """As many event streams are open as there may be: close a tab."""

    code = "too_many_streams"


class Event(NamedTuple):
    """A name, and what is told with it."""

    name: str
    data: Any


EventSource = MemoryObjectReceiveStream[Event]
EventSink = MemoryObjectSendStream[Event]


def pipe() -> tuple[EventSink, EventSource]:
    """A sink and a source for one that tells and one that reads, without a bound."""
    return anyio.create_memory_object_stream[Event](math.inf)


class Watcher:
    """One that reads; `drop` ends it, whatever it is doing."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._sink, self.source = anyio.create_memory_object_stream[Event](MOST_WAITING)
        self.drop: Callable[[], object] = self.end

    def tell(self, event: Event) -> None:
        """Put it in its queue, or drop the watcher when that is full."""
        try:
            self._sink.send_nowait(event)
        except (anyio.WouldBlock, anyio.BrokenResourceError):
            self.end()
            self.drop()

    def end(self) -> None:
        """Nothing more will come; what waits can still be read. Safe twice."""
        self._hub.forget(self)
        self._sink.close()


class Hub:
    """All watchers."""

    def __init__(self) -> None:
        self._watchers: list[Watcher] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(self) -> Watcher:
        """A new watcher. Raises TooManyStreams."""
        if self._is_closed or len(self._watchers) >= MOST_STREAMS:
            raise TooManyStreams
        watcher = Watcher(self)
        self._watchers.append(watcher)
        return watcher

    def tell(self, name: str, data: Any) -> None:
        """Tell everybody. Never waits."""
        for watcher in tuple(self._watchers):
            watcher.tell(Event(name, data))

    def forget(self, watcher: Watcher) -> None:
        """It has ended."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def close(self) -> None:
        """End every stream: the daemon stops."""
        self._is_closed = True
        for watcher in tuple(self._watchers):
            watcher.end()
