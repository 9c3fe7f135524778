"""What the event loop tells the writer's thread: plain values, put into one queue."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.transactions import Transaction
from relay.model.records import Request

# The writer keeps it and asks `done` and `cancelled` of it; only the event loop resolves it.
Waiter = asyncio.Future[Any]


class Append(msgspec.Struct, frozen=True):
    """A request that waits for its commit. `size` is its bytes before compression."""

    request: Request
    size: int
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Flush:
    """Commit the pending acknowledgements now; `waiter` (if any) wants to know."""

    waiter: Waiter | None = None


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A reader met a damaged page in the file of `generation`, or did not find the rows `gaps`."""

    generation: int
    words: str
    waiter: Waiter
    gaps: Ranges = ()  # any: it is damage only if rows of these ought to be there


@dataclass(frozen=True, slots=True)
class Reload:
    """From now on these settings hold."""

    settings: BufferSettings


@dataclass(frozen=True, slots=True)
class Transact:
    """Run a transaction of its own; `waiter` gets what it returns."""

    transaction: Transaction[Any]
    waiter: Waiter


class Stop:
    """Commit what waits, write back the WAL and end."""


Command = Append | Flush | Corrupt | Reload | Transact | Stop
