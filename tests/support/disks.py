"""Small real file systems for tests: mounted for a block, filled on demand, always unmounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


def run(*command: str) -> None:
    """Run a command; fails with its words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"


class Disk:
    """A mounted file system of its own."""

    def __init__(self, folder: Path, image: Path | None) -> None:
        self.folder = folder
        self.image = image
        self._ballast = folder / "ballast"

    def fill(self, *, but_bytes: int = 0) -> None:
        """Take all the room there is, but for so much."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (MIB, 4096, 1):
                with suppress(OSError):
                    while self.free_bytes() >= but_bytes + size or not but_bytes:
                        os.write(descriptor, bytes(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def empty(self) -> None:
        """Give that room back."""
        self._ballast.unlink()

    def free_bytes(self) -> int:
        """What is free by its own account."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fail(self) -> None:
        """Let the kernel find an error (ext4 only): from now on every write meets EROFS."""
        with Path("/proc/mounts").open() as mounts:
            (device,) = [line.split()[0] for line in mounts if line.split()[1] == str(self.folder)]
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")

    def remount(self, options: str) -> None:
        """Mount it with other options, as `ro`."""
        run("mount", "-o", f"remount,{options}", str(self.folder))

    def repair(self) -> None:
        """Unmount, check and mount again (ext4 only)."""
        run("umount", str(self.folder))
        done = subprocess.run(["e2fsck", "-fy", str(self.image)], capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        self.mount()

    def mount(self) -> None:
        """Mount it."""
        options = ["-o", "loop,errors=remount-ro", str(self.image)]
        run("mount", "-t", "ext4", *options, str(self.folder))


@contextmanager
def mounted(folder: Path, kind: str, size_bytes: int) -> Iterator[Disk]:
    """A `tmpfs` or an `ext4` of that size on `folder`, 0700."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if kind == "tmpfs":
        disk = Disk(folder, None)
        options = f"size={size_bytes},mode=700"
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    else:
        image = folder.with_name(folder.name + ".img")
        with image.open("wb") as file:
            file.truncate(size_bytes)
        run("mkfs.ext4", "-q", "-m", "0", str(image))
        disk = Disk(folder, image)
        disk.mount()
    try:
        yield disk
    finally:
        run("umount", "-l", str(folder))
