"""The last row that was committed in, a line in `state_dir/last-row` out; read at the next start.

Not synced, and a line behind the file at worst. When it is ahead of the file, rows that were
acknowledged are not in it any more: its WAL was lost, or an older copy was put in its place. The
file itself could not tell.
"""

import os
import zlib
from pathlib import Path

from relay.buffer.values import Totals

FILE_NAME = "last-row"
_WIDTH = 120  # a line is overwritten whole, in one system call


class Mark:
    """The line, kept open. What goes wrong with it is never worth an error."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._descriptor = -1
        self._written = ""

    def read(self) -> tuple[int, Totals] | None:
        """The last row and the sums over all rows up to it; None when the line does not say."""
        try:
            line = self._path.read_bytes()[: _WIDTH + 1].decode("ascii").strip()
            checksum, *numbers = line.split(" ")
            if int(checksum, 16) != zlib.crc32(" ".join(numbers).encode()):
                return None
            row, rows, spans, raw_bytes = map(int, numbers)
        except (OSError, ValueError):
            return None
        return row, Totals(rows, spans, raw_bytes)

    def write(self, row: int, totals: Totals) -> None:
        """Note them: one write to the page cache (about 1 µs) where they changed."""
        text = f"{row} {totals.rows} {totals.spans} {totals.raw_bytes}"
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
