"""Tells the last id that a quarantined file had, and the version of its schema.

Read from the pages of the small tables, which SQLite puts first in a file of ours: so it takes as
long for any size of file. Nothing of it is sure but what has a checksum: the ranges.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from relay.buffer import owed_ranges
from relay.buffer.sqlite.load import MAX_ROW
from relay.salvage import pages
from relay.salvage.pages import PageFiles, Value

_ROOT_PAGES = 64  # tables and indexes have their roots among these, since they were made first
_MOST_PAGES = 4096  # below them, however a damaged page points
_MOST_DEPTH = 8
_OF_ROWS = (14, 2)  # columns of the tables that have the ids of rows: rows, traces


class OldState(NamedTuple):
    """What is left of the small tables; 0: not known."""

    last_row: int
    version: int  # of the schema


def read_old_state(files: PageFiles) -> OldState:
    """What `files` still tell. Raises OSError when they cannot be read at all."""
    hints: list[int] = []
    version = 0
    versions = files.versions(1)
    if versions:
        head = files.read(versions[0])
        if head.startswith(b"SQLite format 3\0"):
            version = int.from_bytes(head[60:64], "big")
    for page in range(1, _ROOT_PAGES + 1):
        hints += [_hint(values) for values in _records_under(files, page)]
        hints.append(_last_id(files, page))
    likely = sorted(hint for hint in hints if 0 < hint < MAX_ROW)
    # One of them may be a damaged number: a larger one counts only with a second that bears it out.
    return OldState(likely[-2] if len(likely) > 1 else sum(likely), version)


def _records_under(files: PageFiles, root: int) -> Iterator[list[Value]]:
    """The records of the small tables on `root` and below, each of the versions of its page."""
    queue = [(root, 0)]
    looked: set[int] = set()
    while queue and len(looked) < _MOST_PAGES:
        page, depth = queue.pop()
        if page in looked:
            continue
        looked.add(page)
        for number, leaf in enumerate(files.versions(page)):
            content = files.read(leaf)
            kind = pages.page_kind(page, content)
            if kind == pages.INDEX_INNER and depth < _MOST_DEPTH and number == 0:
                queue += [(child, depth + 1) for child in pages.children(page, content)]
            if (kind == pages.TABLE_LEAF and depth == 0) or kind in (
                pages.INDEX_LEAF,
                pages.INDEX_INNER,
            ):
                for cell in pages.cells(page, content):
                    if 2 <= cell.columns <= 3:
                        yield next(files.records(cell), [])


def _hint(values: list[Value]) -> int:
    """A row that there must have been, by a record of `sqlite_sequence` or of `destinations`."""
    match values:
        case ["rows", int(sequence)]:
            return sequence
        case [str(), int(), bytes(stored)]:
            try:
                ranges = owed_ranges.decode(stored)
            except (ValueError, msgspec.MsgspecError):
                return 0
            # A list begins or ends behind it.
            return max(
                (place.row - 1 for item in ranges for place in item if place is not None), default=0
            )
    return 0


def _last_id(files: PageFiles, page: int) -> int:
    """The highest id of the table whose root is `page`; 0 when it is none that has row ids."""
    for _ in range(_MOST_DEPTH):
        versions = files.versions(page)
        if not versions:
            return 0
        content = files.read(versions[0])
        below = pages.children(page, content)
        if not below:
            break
        page = below[-1]
    if pages.page_kind(page, content) != pages.TABLE_LEAF:
        return 0
    return max(
        (cell.rowid for cell in pages.cells(page, content) if cell.columns in _OF_ROWS), default=0
    )
