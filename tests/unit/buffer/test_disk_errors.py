"""What is said of a disk that refuses: by the number that the system or SQLite gives."""

import errno
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from relay.buffer.sqlite.disk_errors import (
    advice_for,
    is_no_space,
    limit_for,
    remember_number,
    words_for,
)

FULL, QUOTA, READ_ONLY = "the file system is full", "the quota on", "the file system is read-only"
FAILS, RIGHTS = "the disk fails", "the state directory may not be written"


def connection(number: int) -> Any:
    return SimpleNamespace(system_errno=number)


@pytest.mark.parametrize(
    ("error", "met", "words", "has_no_space"),
    [
        (OSError(errno.ENOSPC, "no"), None, FULL, True),
        (OSError(errno.EACCES, "no"), None, RIGHTS, False),
        (OSError("no"), None, "OSError: no", False),
        (apsw.FullError("no"), None, FULL, True),
        (apsw.ReadOnlyError("no"), None, READ_ONLY, False),
        (apsw.IOError("no"), None, FAILS, False),
        (apsw.IOError("no"), connection(errno.EDQUOT), QUOTA, True),
        (apsw.IOError("no"), connection(errno.ENOTDIR), FAILS, False),
        (apsw.BusyError("no"), connection(errno.EDQUOT), "BusyError: no", False),
    ],
)
def test_disk_is_told_by_what_it_answered(
    error: Exception, met: Any, words: str, has_no_space: bool
) -> None:
    assert advice_for(error, met).startswith(words)
    assert words_for(error, met) == f"{advice_for(error, met)}; it is tried again every second"
    assert is_no_space(error, met) is has_no_space
    if has_no_space:
        assert advice_for(error, met).startswith(limit_for(error, met))


def test_number_is_known_when_the_connection_is_closed() -> None:
    error = apsw.IOError("no")
    remember_number(error, connection(errno.EDQUOT))
    assert is_no_space(error)
