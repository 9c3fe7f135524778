"""Accepted requests in, rows for every destination out, kept on disk in between."""

from relay.buffer.backlog import Backlog
from relay.buffer.settings import BufferSettings
from relay.buffer.store import Buffer
from relay.buffer.views import (
    BacklogStatistics,
    BufferStatistics,
    LetterCount,
    RecentTrace,
    StoredLetter,
    TraceDelivery,
    TracePlace,
)

__all__ = [
    "Backlog",
    "BacklogStatistics",
    "Buffer",
    "BufferSettings",
    "BufferStatistics",
    "LetterCount",
    "RecentTrace",
    "StoredLetter",
    "TraceDelivery",
    "TracePlace",
]
