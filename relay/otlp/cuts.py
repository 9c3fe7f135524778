"""Where a large request is cut at item borders, so that its parts fit into rows."""

from collections.abc import Iterable
from typing import NamedTuple


class SizedItem(NamedTuple):
    """Where an item stands, by its index in each list from the outermost in, and what it takes.

    A span or log record is three lists deep, a data point four. `item_bytes` and `around_bytes`,
    those of each message around it from the outermost in, include framing, and may be too large
    but not too small.
    """

    place: tuple[int, ...]
    item_bytes: int
    around_bytes: tuple[int, ...]


def group_items(items: Iterable[SizedItem], limit_bytes: int) -> list[list[SizedItem]]:
    """Groups in order, each within the limit; a single larger item is a group of its own.

    What is around the items is no more than half of a group, save the last: under a resource of a
    megabyte, groups are larger than the limit. Repeated for each item it would be gigabytes.
    """
    groups: list[list[SizedItem]] = []
    size = around_bytes = 0
    before: tuple[int, ...] = ()
    for item in items:
        place, item_bytes, around = item
        added = item_bytes
        envelopes = place[:-1]
        if envelopes != before:
            around_bytes = sum(around)
            added += sum(around[_shared(before, envelopes) :])
            before = envelopes
        if not groups or size + added > max(limit_bytes, 2 * around_bytes):
            groups.append([])
            size = 0
            added = item_bytes + around_bytes
        groups[-1].append(item)
        size += added
    return groups


def _shared(before: tuple[int, ...], envelopes: tuple[int, ...]) -> int:
    """How many of these envelopes are those before, from the outermost in."""
    for level, (one, other) in enumerate(zip(before, envelopes, strict=False)):
        if one != other:
            return level
    return len(before)
