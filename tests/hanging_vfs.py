"""A disk in, the same disk whose fsync hangs while a file is there out: an apsw VFS.

Importing it registers the VFS as SQLite's default, for a relay in a process of its own. Every sync
waits as long as the file named by $HANG_FILE exists.
"""

import os
import time
from pathlib import Path
from typing import Any

import apsw

NAME = "hanging"
BASE = "unix"  # by name: the default will be this one


class HangingVFS(apsw.VFS):
    """Register by making one; keep a reference as long as connections use it."""

    def __init__(self, hang_file: Path) -> None:
        self.hang_file = hang_file
        super().__init__(NAME, BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _HangingFile(self, name, flags)


class _HangingFile(apsw.VFSFile):
    def __init__(self, vfs: HangingVFS, name: Any, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)
        self._vfs = vfs

    def xSync(self, flags: int) -> None:  # noqa: N802
        while self._vfs.hang_file.exists():
            time.sleep(0.01)  # the kernel's wait for a disk, not a test's
        super().xSync(flags)


if "HANG_FILE" in os.environ:
    KEPT = HangingVFS(Path(os.environ["HANG_FILE"]))
