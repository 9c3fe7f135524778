"""A small ext4 of its own that fills up, or is remounted read-only, under a running relay.

Needs root and loop devices: `why_not` says what is missing. Whatever happens, it is unmounted.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from mockcollector.script import ok, refuse
from tests.support.load import nth_request
from tests.support.relay_process import eventually
from tests.trials.relays import Trial
from tests.trials.rows import Row

SIZE_MIB = 80
ROOM_MIB = 20
PADDING = 100_000
RECOVERY_SECONDS = 30.0
# A reserve of 16 MiB; the disk is full before the buffer is.
SETTINGS = '[buffer]\nmin_free = "0B"\nmax_size = "64MiB"\nkeep_delivered = "0s"'


class SmallDisk:
    """An ext4 of SIZE_MIB in a file, mounted; a context manager that unmounts it."""

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="trial-disk-"))
        self._image, self.point = self._folder / "image", self._folder / "disk"
        self.point.mkdir()
        try:
            with self._image.open("wb") as file:
                file.truncate(SIZE_MIB << 20)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
            self._mount()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._unmount()
        shutil.rmtree(self._folder)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.point))

    def _unmount(self) -> None:
        def is_done() -> bool:
            if os.path.ismount(self.point):
                _run("umount", str(self.point), may_fail=True)
            return not os.path.ismount(self.point)

        eventually(is_done, seconds=30, what="unmounting")

    def break_down(self) -> None:
        """An error of the disk, at which ext4 lets nobody write any more."""
        source = _run("findmnt", "-no", "SOURCE", str(self.point)).stdout.decode().strip()
        switch = Path("/sys/fs/ext4") / Path(source).name / "trigger_fs_error"
        switch.write_text("otlp-relay's tests")

    def mend(self) -> None:
        """What an operator does: unmount, check, mount; and again should it come back read-only,
        which was seen once in hundreds of times, on a busy machine.
        """

        def is_writable() -> bool:
            self._unmount()
            _run("e2fsck", "-y", "-f", str(self._image), may_fail=True)  # 1: it has mended
            self._mount()
            return not os.statvfs(self.point).f_flag & os.ST_RDONLY

        eventually(is_writable, seconds=30, what="a disk that can be written")


def why_not() -> str:
    """Why no file system can be mounted here; empty when one can."""
    if os.geteuid() != 0:
        return "mounting a loop device needs root"
    for tool in ("mkfs.ext4", "e2fsck", "mount", "umount", "findmnt"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    try:
        with SmallDisk():
            return ""
    except subprocess.CalledProcessError as error:
        return f"{error.cmd[0]} failed: {error.stderr.decode(errors='replace').strip()}"


def _run(*command: str, may_fail: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=not may_fail, capture_output=True, timeout=60)


class _Poster:
    """Posts one request after the other, and knows what was answered."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.acknowledged: set[str] = set()
        self.statuses: dict[int, int] = {}
        self._numbers = itertools.count()

    def post(self, *, items: int = 2, padding: int = PADDING) -> int:
        noise = self._trial.random.randbytes(padding // 2).hex()
        made = nth_request(next(self._numbers), items, padding=noise)
        status, _ = self._trial.relay.send(made)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.acknowledged.update(made.ids)
        elif status != 503:
            self._trial.problems.append(f"answered {status}")
        return status

    def post_until(self, wanted: int, what: str, *, seconds: float = 60.0) -> None:
        """Post until the answer is `wanted`; says so if it never is."""
        try:
            eventually(lambda: self.post() == wanted, seconds=seconds, what=what)
        except AssertionError as error:
            self._trial.problems.append(f"{error}; {self.statuses}")


@contextmanager
def _on_small_disk(name: str, seed: int) -> Iterator[tuple[Trial, _Poster, SmallDisk]]:
    """A relay whose state is on a small disk."""
    with (
        SmallDisk() as disk,
        Trial(name, seed, settings=SETTINGS, state_dir=disk.point / "state") as trial,
    ):
        yield trial, _Poster(trial), disk


def full_disk(*, seed: int, times: int = 1, is_alone: bool = False) -> Row:
    """The disk fills up while an upstream is away; 503, then it drains and takes items again.

    Something else is on the disk, and goes once all is delivered; or the relay `is_alone` there:
    then only what it deletes itself makes room.
    """
    name = "full disk (ext4)" + (", alone" if is_alone else "")
    with _on_small_disk(name, seed) as (trial, poster, disk):
        away, _well = trial.names
        for _ in range(times):
            trial.collectors[away].script.default = refuse(503, times=None)
            ballast = disk.point / "ballast"
            with ballast.open("wb") as file:  # what else is on the disk
                free = os.statvfs(disk.point).f_bavail * os.statvfs(disk.point).f_frsize
                file.write(bytes(0 if is_alone else max(free - (ROOM_MIB << 20), 0)))
            poster.post_until(503, "a full disk")
            for _ in range(20):  # and it stays refused, without harm
                poster.post()
            if trial.relay.owed(away) == 0:
                trial.problems.append(
                    f"nothing waits for {away}: the disk was full of other things"
                )
            trial.collectors[away].script.default = ok(times=None)
            trial.nudge()
            _drains(trial, poster, away, ballast)
            poster.post_until(200, "taking items again by itself", seconds=RECOVERY_SECONDS)
        trial.wait_until_delivered(poster.acknowledged)
        return trial.row(poster.acknowledged)


def _drains(trial: Trial, poster: _Poster, away: str, ballast: Path) -> None:
    """What was kept is delivered though the disk is full; then the ballast goes."""
    try:
        eventually(
            lambda: trial.recorders[away].holds(poster.acknowledged),
            seconds=RECOVERY_SECONDS,
            what="draining on a full disk",
        )
    except AssertionError as error:
        trial.problems.append(str(error))
    ballast.unlink()


def read_only(*, seed: int, times: int = 1) -> Row:
    """The disk has an error under load and lets nobody write; it is checked and mounted again."""
    with _on_small_disk("read-only disk (ext4)", seed) as (trial, poster, disk):
        for _ in range(times):
            for _ in range(20):
                poster.post(padding=500)
            began = time.time()
            disk.break_down()
            poster.post_until(503, "refusing on a read-only disk", seconds=10)
            for _ in range(10):
                poster.post(padding=500)
            if trial.relay.get("/healthz", parse=False)[0] != 200:
                trial.problems.append("the relay is not alive on a read-only disk")
            if trial.relay.get("/readyz", parse=False)[0] != 503:
                trial.problems.append("the relay calls itself ready on a read-only disk")
            code = trial.relay.stop()
            if code:
                trial.problems.append(f"on a read-only disk the relay ended with {code}")
            # What was delivered since could not be written down.
            trial.note_crash(since=began)
            disk.mend()
            trial.relay.start()
            poster.post_until(200, "taking items again", seconds=RECOVERY_SECONDS)
        trial.wait_until_delivered(poster.acknowledged)
        return trial.row(poster.acknowledged)
