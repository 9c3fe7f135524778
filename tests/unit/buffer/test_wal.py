"""Reading what a bad sector has left of a write-ahead log."""

import os
import struct
from pathlib import Path

import pytest

from relay.buffer.sqlite.schema import PAGE_BYTES
from relay.buffer.sqlite.wal import frames_of_generation, read_at


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


def log_of(salts: str, *, head: str, commits: str = "") -> bytes:
    """A log whose head and frames bear these salts; `c` in the place of each commit."""
    frames = [
        struct.pack(">II8s8x", 1, int(end == "c"), salt.encode() * 8) + bytes(PAGE_BYTES)
        for salt, end in zip(salts, commits.ljust(len(salts), "c"), strict=True)
    ]
    return bytes(16) + head.encode() * 8 + bytes(8) + b"".join(frames)


@pytest.mark.parametrize(
    ("log", "count"),
    [
        (log_of("aaaaa", head="a"), 5),
        (log_of("aabbb", head="a"), 2),  # what follows is of before it began anew
        (log_of("abbbb", head="a"), 1),
        (log_of("aaabb", head="!"), 3),  # the head is hit
        (log_of("?aabb", head="a"), 3),
        (log_of("?aabb", head="!"), 3),
        (log_of("a?abb", head="!"), 3),
        (log_of("a?bbb", head="!"), 1),
        (log_of("aaa", head="a", commits="-cc"), 3),
        (log_of("aaaab", head="a", commits="-c--c"), 2),  # what was not committed does not count
        (log_of("aaa", head="a", commits="---"), 0),
        (log_of("", head="a"), 0),
        (log_of("aaa", head="a")[:-1], 2),  # the last was not written to its end
        (b"", 0),
    ],
)
def test_frames_of_a_log_are_those_since_it_began_anew_up_to_the_last_commit(
    tmp_path: Path, log: bytes, count: int
) -> None:
    (tmp_path / "wal").write_bytes(log)
    assert frames_of_generation(tmp_path / "wal") == count
    assert frames_of_generation(tmp_path / "none") == 0
