"""Brokers whose disks fill up: what was answered 200 is there when there is room again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fleet.fleets import logged, relay_of
from tests.support.disks import MIB, Disk, mounted, needs_root
from tests.support.kafka import Brokers
from tests.support.load import MIXED, Load
from tests.support.relay_process import eventually

DISK_BYTES = 256 * MIB


@contextmanager
def brokers_with_little(folder: Path, small: Sequence[int]) -> Iterator[tuple[Brokers, Disk]]:
    """Three brokers, of which those have their data together on a small disk."""
    brokers = Brokers(folder, 3)
    with mounted(folder / "disk", "ext4", DISK_BYTES) as disk:
        for number in small:
            brokers.node(number).folder = disk.folder / f"broker-{number}"
        with brokers:
            yield brokers, disk


def have_ended(brokers: Brokers, numbers: Sequence[int]) -> bool:
    """Whether those brokers have given up."""
    processes = [brokers.node(number).process for number in numbers]
    return all(each is not None and each.poll() is not None for each in processes)


@needs_root
@pytest.mark.parametrize("full", [(1,), (1, 2, 3)])
def test_brokers_that_have_no_room_end_and_what_was_acknowledged_is_there_once_they_have_room(
    tmp_path: Path, full: tuple[int, ...]
) -> None:
    with (
        brokers_with_little(tmp_path, full) as (brokers, disk),
        relay_of(brokers, tmp_path / "a") as relay,
        Load(relay.ingest_port, kinds=MIXED) as load,
    ):
        load.wait_for_more(300)
        disk.fill()
        eventually(lambda: have_ended(brokers, full), seconds=60, what="the end of those")
        if len(full) == 1:
            load.wait_for_more(300, seconds=60)
            assert relay.is_ready()
        else:
            eventually(lambda: not relay.is_ready(), what="not ready")
            before = len(load.acknowledged)
            refused = load.statuses.get(503, 0)
            eventually(lambda: load.statuses.get(503, 0) > refused + 20, what="503 at once")
            assert len(load.acknowledged) == before
            assert "broker" in relay.status()["not_ready_reason"]
        disk.empty()
        brokers.restart(*full)
        load.wait_for_more(300, seconds=60)
        eventually(relay.is_ready, seconds=30, what="ready")
        load.stop()
        brokers.wait_in_sync()
        assert load.acknowledged <= logged(brokers)
    assert load.statuses.keys() <= {200, 503}
