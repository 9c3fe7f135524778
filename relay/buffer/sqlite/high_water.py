"""Where the file stands in, a line in `state_dir/last-row` out; read at the next start.

Not synced, and a line behind the file at worst. When it is ahead of the file, rows that were
acknowledged are not in it any more: its WAL was lost, or an older copy was put in its place. The
file itself could not tell, and no more when damage left its list of destinations shorter.
"""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.buffer.sqlite.types import Totals

FILE_NAME = "last-row"
_WIDTH = 120  # a line is overwritten whole, in one system call


@dataclass(frozen=True, slots=True)
class Standing:
    """What the line says: the last row, the sums up to it, and which destinations there are."""

    row: int
    totals: Totals
    destinations: int
    names: int  # CRC-32 of their names

    def misses(self, names: Iterable[str]) -> bool:
        """Whether `names` cannot be all destinations. New ones may be ahead of the line."""
        found = list(names)
        is_other = len(found) == self.destinations and _names(found) != self.names
        return len(found) < self.destinations or is_other


def _names(names: Iterable[str]) -> int:
    return zlib.crc32("\0".join(sorted(names)).encode("utf-8", "surrogatepass"))


class Mark:
    """The line, kept open. What goes wrong with it is never worth an error."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._descriptor = -1
        self._written = ""
        self._known: tuple[str, ...] | None = None
        self._end = ""  # of the line: about these destinations

    def read(self) -> Standing | None:
        """None when there is no line, or it is not as it was written."""
        try:
            line = self._path.read_bytes()[: _WIDTH + 1].decode("ascii").strip()
            checksum, *numbers = line.split(" ")
            if int(checksum, 16) != zlib.crc32(" ".join(numbers).encode()):
                return None
            row, rows, spans, raw_bytes, destinations, known = map(int, numbers)
        except (OSError, ValueError):
            return None
        return Standing(row, Totals(rows, spans, raw_bytes), destinations, known)

    def write(self, row: int, totals: Totals, names: Iterable[str]) -> None:
        """Note them: one write to the page cache (some µs) where they changed."""
        known = tuple(names)
        if known != self._known:
            self._known, self._end = known, f"{len(known)} {_names(known)}"
        text = f"{row} {totals.rows} {totals.spans} {totals.raw_bytes} {self._end}"
        if text == self._written:
            return
        line = f"{zlib.crc32(text.encode()):08x} {text}".ljust(_WIDTH) + "\n"
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            os.pwrite(self._descriptor, line.encode(), 0)
        except OSError:
            return  # a full disk: the file itself says so
        self._written = text

    def close(self) -> None:
        """Close the file; safe twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._written = -1, ""
