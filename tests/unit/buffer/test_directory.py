"""The state directory: why it cannot be used is told in words, and whose fault that is."""

import errno
import os
from pathlib import Path

import pytest

from relay.buffer.sqlite.directory import StateDirectory
from relay.model.errors import BufferDiskError, BufferUnusable


def test_path_where_no_directory_can_be_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BufferUnusable, match="Not a directory") as found:
        StateDirectory(tmp_path / "file/state").enter()
    assert "state_dir must be a directory" in (found.value.hint or "")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_disk_that_fails_is_an_error_that_may_be_over_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BufferDiskError, match="state cannot be used"):
        StateDirectory(tmp_path / "state").enter()
