"""What the service manager hears: its protocol, and when the service says what."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
import structlog.testing

from relay.systemd.notify import Notifier
from relay.systemd.reporter import Service
from relay.systemd.status_line import Summary
from tests.support.manager import Manager

FINE = Summary("1 destination, all well", "nothing waiting")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@otlp-relay-test-{os.getpid()}-{time.monotonic_ns()}"
    with Manager(address) as manager:
        yield manager


@pytest.fixture
def fast() -> "FakeClock":
    return FakeClock()


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_messages_are_one_datagram_each_in_utf_8(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    before = time.monotonic_ns() // 1000
    notifier.ready("waiting for “more”\nlines")
    notifier.status("…")
    notifier.reloading()
    notifier.stopping("bye")
    notifier.alive()
    notifier.extend(1.5)
    ready, status, reloading, *rest = manager.hear(0.05)

    assert ready == {"READY": "1", "STATUS": "waiting for “more” lines"}
    assert status == {"STATUS": "…"}
    assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert rest == [
        {"STOPPING": "1", "STATUS": "bye"},
        {"WATCHDOG": "1"},
        {"EXTEND_TIMEOUT_USEC": "1500000"},
    ]


def test_take_reads_the_environment_and_leaves_nothing_for_children() -> None:
    environ = {
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier.take(environ)

    assert environ == {"HOME": "/"}
    assert notifier.is_on
    assert notifier.watchdog_seconds == 30.0


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
    ],
)
def test_watchdog_is_off_where_it_is_not_for_us(watchdog: dict[str, str]) -> None:
    assert Notifier.take({"NOTIFY_SOCKET": "@x", **watchdog}).watchdog_seconds is None


@pytest.mark.parametrize("address", ["/nowhere/at/all", "nonsense", "vsock:x:y"])
def test_manager_that_cannot_be_reached_is_logged_once(address: str) -> None:
    notifier = Notifier(address)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            notifier.alive()

    assert [entry["event"] for entry in logged] == ["notify_failed"]


async def run_for(service: Service, manager: Manager, until: Callable[[], bool]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        with anyio.fail_after(10):
            while not until():
                await anyio.sleep(0.01)
                manager.hear()
        tasks.cancel_scope.cancel()


def count(manager: Manager, name: str) -> int:
    return sum(name in message for message in manager.heard)


@pytest.mark.anyio
async def test_signs_of_life_come_within_half_of_the_time_asked_for(manager: Manager) -> None:
    service = Service(Notifier(manager.address, 0.3), lambda: FINE, lambda: 0.0)
    await run_for(service, manager, lambda: count(manager, "WATCHDOG") >= 6)
    times = [t for t, m in zip(manager.times, manager.heard, strict=True) if "WATCHDOG" in m]

    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert sorted(gaps)[len(gaps) // 2] < 0.15


@pytest.mark.anyio
async def test_disk_that_hangs_stops_the_signs_of_life_after_five_minutes_only(
    manager: Manager,
) -> None:
    stalled = [299.0]
    service = Service(Notifier(manager.address, 0.06), lambda: FINE, lambda: stalled[0])
    await run_for(service, manager, lambda: count(manager, "WATCHDOG") >= 3)
    stalled[0] = 301.0
    manager.hear()  # what was sent since it last listened
    before = count(manager, "WATCHDOG")
    with anyio.move_on_after(0.3):
        await run_for(service, manager, lambda: False)
    assert count(manager, "WATCHDOG") == before
    stalled[0] = 0.0
    await run_for(service, manager, lambda: count(manager, "WATCHDOG") > before)


@pytest.mark.anyio
async def test_status_is_told_at_once_for_a_condition_and_seldom_for_amounts(
    manager: Manager, fast: FakeClock
) -> None:
    told = [FINE]
    service = Service(Notifier(manager.address, 0.03), lambda: told[0], lambda: 0.0, monotonic=fast)
    service.ready()
    signs = [0]

    async def a_few_turns() -> None:
        signs[0] = count(manager, "WATCHDOG")
        fast.now += 1.0
        await run_for(service, manager, lambda: count(manager, "WATCHDOG") > signs[0])

    await a_few_turns()
    assert manager.heard[0] == {"READY": "1", "STATUS": "1 destination, all well; nothing waiting"}
    assert count(manager, "STATUS") == 1
    told[0] = Summary(FINE.condition, "9 B waiting, oldest 1.0 s")
    await a_few_turns()
    assert count(manager, "STATUS") == 1
    told[0] = Summary("1 destination, 1 blocked: x 403", "9 B waiting, oldest 1.0 s")
    await a_few_turns()
    assert count(manager, "STATUS") == 2
    told[0] = Summary("1 destination, 1 blocked: x 403", "10 B waiting, oldest 3.0 s")
    fast.now += 10.0
    await a_few_turns()
    assert [m["STATUS"] for m in manager.heard if "STATUS" in m][2:] == [
        "1 destination, 1 blocked: x 403; 10 B waiting, oldest 3.0 s"
    ]


@pytest.mark.anyio
async def test_stop_is_prolonged_until_its_time_is_up(manager: Manager, fast: FakeClock) -> None:
    service = Service(Notifier(manager.address, 0.03), lambda: FINE, lambda: 0.0, monotonic=fast)
    service.stopping(45.0)
    await run_for(service, manager, lambda: count(manager, "EXTEND_TIMEOUT_USEC") >= 3)
    fast.now += 46.0
    manager.hear(0.05)
    before = count(manager, "EXTEND_TIMEOUT_USEC")
    signs = count(manager, "WATCHDOG")
    await run_for(service, manager, lambda: count(manager, "WATCHDOG") > signs)

    assert manager.heard[0]["STOPPING"] == "1"
    assert count(manager, "EXTEND_TIMEOUT_USEC") == before


@pytest.mark.anyio
async def test_summary_that_fails_ends_neither_the_daemon_nor_the_signs_of_life(
    manager: Manager,
) -> None:
    def fail() -> Summary:
        raise KeyError("x")

    service = Service(Notifier(manager.address, 0.03), fail, lambda: 0.0)
    with structlog.testing.capture_logs() as logged:
        service.ready()
        await run_for(service, manager, lambda: count(manager, "WATCHDOG") >= 3)

    assert manager.heard[0]["READY"] == "1"
    assert [entry["event"] for entry in logged] == ["summary_failed"]


@pytest.mark.anyio
async def test_without_a_manager_the_task_is_over_at_once() -> None:
    with anyio.fail_after(5):
        await Service(Notifier(), lambda: FINE, lambda: 0.0).run()
