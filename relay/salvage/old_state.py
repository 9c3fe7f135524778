"""A file that cannot be used in; names, ranges, counts and the last id that it still tells, out.

Read from the pages of the small tables, which SQLite puts first in a file of ours: so it takes as
long for any size of file. Nothing of it is sure but what has a checksum (ranges, salvages).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.salvage import pages
from relay.salvage.pages import Leaf, PageFiles, Value

_ROOT_PAGES = 64  # tables and indexes have their roots among these, since they were made first
_MOST_PAGES = 4096  # below them, however a damaged page points
_MOST_DEPTH = 8
# Tallies that say something without the rows of their file.
_COUNTS = ("evicted:", "dead_letters_dropped:")
# Ids count from 1, or from microseconds since the epoch: above this lies only damage.
MAX_ROW = 1 << 53


@dataclass(slots=True)
class Remains:
    """What is left of the small tables. Ranges of None: the destination is known, not its list."""

    destinations: dict[str, tuple[bool, Ranges | None]] = field(default_factory=dict)
    salvages: dict[str, tuple[int, bool, bytes]] = field(default_factory=dict)
    tallies: dict[str, int] = field(default_factory=dict)
    last_row: int = 0  # 0: not known
    version: int = 0  # of the schema; 0: not known

    @property
    def is_ours(self) -> bool:
        """Whether anything in it looks like a file of this program."""
        return bool(self.destinations or self.last_row)


def read_remains(files: PageFiles) -> Remains:
    """What `files` still tell. Raises OSError when they cannot be read at all."""
    found = Remains()
    hints: list[int] = []
    versions = files.versions(1)
    if versions:
        head = files.read(versions[0])
        if head.startswith(b"SQLite format 3\0"):
            found.version = int.from_bytes(head[60:64], "big")
    for page in range(1, _ROOT_PAGES + 1):
        for is_newest, values in _records_under(files, page):
            _take(found, hints, values, is_newest=is_newest)
    hints += [_last_id(files, page) for page in range(1, _ROOT_PAGES + 1)]
    hints += _ends(found)
    likely = sorted(hint for hint in hints if 0 < hint < MAX_ROW)
    # One of them may be a damaged number: a larger one counts only with a second that bears it out.
    found.last_row = likely[-2] if len(likely) > 1 else sum(likely)
    return found


def _records_under(files: PageFiles, root: int) -> Iterator[tuple[bool, list[Value]]]:
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
                yield from ((number == 0, values) for values in _small(files, leaf, content))


def _small(files: PageFiles, leaf: Leaf, content: bytes) -> Iterator[list[Value]]:
    for cell in pages.cells(leaf.page, content):
        try:
            if not 2 <= len(pages.column_kinds(cell.inline)) <= 4:
                continue
            yield pages.record(next(files.payloads(cell), b""))
        except ValueError:
            continue


def _take(found: Remains, hints: list[int], values: list[Value], *, is_newest: bool) -> None:
    match values:
        case [str(name), int(paused), bytes(stored)]:
            before = found.destinations.get(name)
            if before is None and not is_newest:
                return  # it may have been removed since
            if before is None or before[1] is None:
                is_paused = bool(paused) if before is None else before[0]
                found.destinations[name] = (is_paused, _ranges(stored))
        case [str(name), int(last_row), int(done), bytes(state)]:
            if is_newest:
                found.salvages[name] = (last_row, done == 1, state)
        case ["rows", int(sequence)]:
            hints.append(sequence)
        case [str(name), int(value)] if name.startswith(_COUNTS) and is_newest:
            if 0 <= value < MAX_ROW:
                found.tallies.setdefault(name, value)
        case _:
            pass


def _ranges(stored: bytes) -> Ranges | None:
    try:
        return owed_ranges.decode(stored)
    except (ValueError, msgspec.MsgspecError):
        return None


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
    return max((_row_of(cell) for cell in pages.cells(page, content)), default=0)


def _row_of(cell: pages.Cell) -> int:
    try:
        columns = len(pages.column_kinds(cell.inline))
    except ValueError:
        return 0
    return cell.rowid if columns in (14, 2) else 0  # rows, traces


def _ends(found: Remains) -> list[int]:
    """Rows that must have been there, since a list of ranges begins or ends behind them."""
    places = [
        place.row - 1
        for _, ranges in found.destinations.values()
        for item in ranges or ()
        for place in (item.start, item.end)
        if place is not None
    ]
    return [max(places)] if places else []
