"""kill -9 of a process that appends: every acknowledged request is there, once it is opened again.

Killing alone proves nothing about fsync, since the page cache survives it. The faulty VFS
loses what was not synced, or a random part of it, and the last tests show that it would notice.
"""

import re
import signal as signals
import subprocess
import sys
from pathlib import Path

import pytest

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.model.counters import Counters
from relay.model.records import Signal
from tests.support.faulty_vfs import lose_power

pytestmark = [pytest.mark.anyio, pytest.mark.proofs]
ROOT = Path(__file__).parents[2]
SETTINGS = BufferSettings(min_free_bytes=0)


class Claims:
    """What killed processes had promised."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.settled: set[int] = set()

    def run_until_killed(
        self, state_dir: Path, *, disk: str, sync: str = "full", appends: int = 400
    ) -> None:
        first = max(self.acknowledged, default=0) + 1_000_000
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.buffer_child",
                str(state_dir),
                str(first),
                disk,
                sync,
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        seen = 0
        try:
            for line in child.stdout:
                seen += self._note(line)
                if seen >= appends:
                    break
        finally:
            child.send_signal(signals.SIGKILL)
            rest = child.stdout.read()
            child.stdout.close()
            child.wait()
            lose_power(state_dir)
        for line in rest.splitlines(keepends=True):
            self._note(line)
        assert seen >= appends, "the child ended by itself"

    def _note(self, line: bytes) -> int:
        if not line.endswith(b"\n"):
            return 0
        if line.startswith(b"s "):
            self.settled.add(int(line[2:]))
            return 0
        self.acknowledged.add(int(line))
        return 1


def files_set_aside(state_dir: Path) -> list[Path]:
    return list(state_dir.glob("relay.db.*"))


async def numbers_owed(state_dir: Path, destination: str, *, is_whole: bool = True) -> set[int]:
    """Every request that the destination is still owed; each body must be whole.

    With `is_whole` the relay must miss nothing itself.
    """
    buffer = Buffer(state_dir, SETTINGS, Counters())
    buffer.open()
    try:
        found: set[int] = set()
        for signal in Signal:
            backlog = buffer.consumer(destination, signal=signal)
            while (taken := await backlog.take(max_bytes=1 << 30, max_items=1 << 30)) is not None:
                for row in taken.rows:
                    numbers = re.findall(rb'\{"n":(\d+),"fill":"[0-9a-f]{400}"\}', row.body)
                    assert len(numbers) == row.items
                    assert {Signal(1 + int(number) // 8 % 3) for number in numbers} == {signal}
                    found.update(int(number) for number in numbers)
        assert not is_whole or buffer.statistics().dead_letters == {}
        return found
    finally:
        await buffer.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("disk", ["plain", "forgetful", "tearing"])
async def test_buffer_keeps_every_acknowledged_request_when_killed_again_and_again(
    tmp_path: Path, disk: str
) -> None:
    claims = Claims()
    for kill in range(5):
        claims.run_until_killed(tmp_path, disk=disk, appends=150 + 130 * kill)

        assert claims.acknowledged <= await numbers_owed(tmp_path, "keeper")
        assert files_set_aside(tmp_path) == []
    # What was not settled must still be owed. (What was settled may be owed again.)
    assert claims.acknowledged - claims.settled <= await numbers_owed(tmp_path, "child")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sync", ["off", "normal"])
async def test_buffer_loses_acknowledged_requests_on_the_forgetful_disk_when_sync_is_off(
    tmp_path: Path, sync: str
) -> None:
    """The proof that the test above can fail: without the fsync this disk loses requests."""
    claims = Claims()
    claims.run_until_killed(tmp_path, disk="forgetful", sync=sync)

    lost = claims.acknowledged - await numbers_owed(tmp_path, "keeper", is_whole=False)

    assert lost


@pytest.mark.timeout(60)
async def test_buffer_keeps_requests_on_a_plain_disk_when_sync_is_normal_and_the_process_dies(
    tmp_path: Path,
) -> None:
    claims = Claims()
    claims.run_until_killed(tmp_path, disk="plain", sync="normal")

    assert claims.acknowledged <= await numbers_owed(tmp_path, "keeper")
