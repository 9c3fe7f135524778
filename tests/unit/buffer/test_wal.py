"""Reading what a bad sector has left of a write-ahead log."""

import os
from pathlib import Path

import pytest

from relay.buffer.sqlite.schema import PAGE_BYTES
from relay.buffer.sqlite.wal import read_at


def test_bad_sector_costs_its_own_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [bytes([number]) * PAGE_BYTES for number in range(1, 6)]
    path = tmp_path / "wal"
    path.write_bytes(b"".join(pages))
    usual = os.pread

    def bad(descriptor: int, size: int, at: int) -> bytes:
        if at <= 2 * PAGE_BYTES < at + size:
            raise OSError(5, "Input/output error")
        return usual(descriptor, size, at)

    monkeypatch.setattr(os, "pread", bad)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = read_at(descriptor, 3 * PAGE_BYTES, PAGE_BYTES)
    finally:
        os.close(descriptor)
    assert found == pages[1] + bytes(PAGE_BYTES) + pages[3]
