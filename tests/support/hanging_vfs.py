"""A disk in, the same disk whose fsync hangs when told to out: an apsw VFS.

Where $HANG_FILE names a file, importing this makes it SQLite's default, for a relay in a process of
its own: the disk hangs while the file exists.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

NAME = "hanging"
BASE = "unix"  # by name: the default will be this one


class HangingVFS(apsw.VFS):
    """Register by making one; keep a reference as long as connections use it."""

    def __init__(self, is_hanging: Callable[[], bool], *, is_default: bool = False) -> None:
        self.is_hanging = is_hanging
        super().__init__(NAME, BASE, makedefault=is_default)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _HangingFile(self, name, flags)


class _HangingFile(apsw.VFSFile):
    def __init__(self, vfs: HangingVFS, name: Any, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self._vfs = vfs

    def xSync(self, flags: int) -> None:  # noqa: N802
        while self._vfs.is_hanging():
            time.sleep(0.01)  # the kernel's wait for a disk, not a test's
        super().xSync(flags)


if "HANG_FILE" in os.environ:
    KEPT = HangingVFS(Path(os.environ["HANG_FILE"]).exists, is_default=True)
