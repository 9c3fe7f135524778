"""Who gets room for a body, and whose body goes for it."""

import pytest

from relay.ingest.in_flight import SMALL_BYTES, Body, InFlight
from relay.model.errors import Refusal
from relay.model.records import Sender

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_flight(clock: Clock) -> InFlight:
    """Of 128 MiB."""
    return InFlight(128 * MIB, clock=clock)


async def body(in_flight: InFlight, sender: str, size: int, *, is_whole: bool = False) -> Body:
    """One that holds so much. Nobody cancels the test when it is cut off."""
    made = Body()
    made.sender, made.is_whole = Sender(sender), is_whole
    in_flight.hold(made, size)
    made.task = None
    return made


async def test_sender_that_is_alone_may_use_all(in_flight: InFlight) -> None:
    for _ in range(3):
        await body(in_flight, "a", 30 * MIB, is_whole=True)

    assert in_flight.bytes == 90 * MIB


async def test_body_that_is_alone_may_be_larger_than_all(in_flight: InFlight) -> None:
    made = await body(in_flight, "a", 300 * MIB, is_whole=True)
    in_flight.release(made)

    assert in_flight.bytes == 0


async def test_quarter_is_for_small_bodies(in_flight: InFlight) -> None:
    await body(in_flight, "a", 60 * MIB, is_whole=True)
    await body(in_flight, "b", 36 * MIB, is_whole=True)
    with pytest.raises(Refusal, match=r"too many bytes of other requests.*retry") as refusal:
        await body(in_flight, "c", SMALL_BYTES + 1, is_whole=True)
    for _ in range(32):
        await body(in_flight, "c", SMALL_BYTES, is_whole=True)
    with pytest.raises(Refusal):
        await body(in_flight, "d", 1, is_whole=True)

    assert (refusal.value.status, refusal.value.grpc_code) == (503, 14)


async def test_whole_body_has_room_for_which_the_worst_unfinished_one_is_cut_off(
    in_flight: InFlight, clock: Clock
) -> None:
    old_and_small = await body(in_flight, "a", 2 * MIB)
    clock.now = 1.0
    large = await body(in_flight, "a", 63 * MIB)
    clock.now = 2.0
    newest = await body(in_flight, "a", 63 * MIB)
    clock.now = 10.0
    whole = await body(in_flight, "a", 1 * MIB, is_whole=True)

    assert [each.is_cut_off for each in (old_and_small, large, newest, whole)] == [
        False,
        True,
        False,
        False,
    ]
    assert in_flight.bytes == (2 + 63 + 1) * MIB
    in_flight.release(large)  # as its request does
    assert in_flight.bytes == (2 + 63 + 1) * MIB


async def test_whole_body_is_never_cut_off(in_flight: InFlight) -> None:
    for sender in "ab":
        await body(in_flight, sender, 48 * MIB, is_whole=True)
    with pytest.raises(Refusal):
        await body(in_flight, "c", 2 * MIB, is_whole=True)

    assert in_flight.bytes == 96 * MIB


async def test_sender_that_holds_more_cuts_off_nobody_who_holds_less(
    in_flight: InFlight, clock: Clock
) -> None:
    upload = await body(in_flight, "honest", 30 * MIB)
    clock.now = 30.0
    await body(in_flight, "greedy", 64 * MIB, is_whole=True)
    with pytest.raises(Refusal):
        await body(in_flight, "greedy", 20 * MIB, is_whole=True)

    assert not upload.is_cut_off


async def test_sender_has_half_while_others_want_room_too(
    in_flight: InFlight, clock: Clock
) -> None:
    first = await body(in_flight, "a", 60 * MIB, is_whole=True)
    second = await body(in_flight, "a", 36 * MIB, is_whole=True)
    with pytest.raises(Refusal):
        await body(in_flight, "b", 40 * MIB, is_whole=True)
    in_flight.release(first)
    clock.now = 59.0  # `b` is to find room when it comes again
    with pytest.raises(Refusal, match="requests of this sender hold half"):
        await body(in_flight, "a", 30 * MIB, is_whole=True)
    await body(in_flight, "b", 40 * MIB, is_whole=True)
    in_flight.release(second)
    clock.now = 121.0

    with pytest.raises(Refusal):  # `b` has one in flight
        await body(in_flight, "a", 65 * MIB, is_whole=True)


async def test_sender_that_has_gone_is_forgotten_after_a_minute(
    in_flight: InFlight, clock: Clock
) -> None:
    first = await body(in_flight, "a", 90 * MIB, is_whole=True)
    with pytest.raises(Refusal):
        await body(in_flight, "b", 40 * MIB, is_whole=True)
    in_flight.release(first)
    clock.now = 61.0
    await body(in_flight, "a", 20 * MIB, is_whole=True)
    await body(in_flight, "a", 60 * MIB, is_whole=True)


async def test_share_is_a_networks_where_a_host_has_many_addresses(in_flight: InFlight) -> None:
    await body(in_flight, "192.0.2.1", 1, is_whole=True)
    await body(in_flight, "2001:db8::1", 40 * MIB, is_whole=True)
    with pytest.raises(Refusal, match="this sender"):
        await body(in_flight, "2001:db8::ffff:2", 40 * MIB, is_whole=True)
    await body(in_flight, "2001:db8:0:1::1", 40 * MIB, is_whole=True)


async def test_unfinished_body_gives_way_rather_than_a_better_one(
    in_flight: InFlight, clock: Clock
) -> None:
    slow = await body(in_flight, "a", 40 * MIB)
    clock.now = 5.0
    upload = await body(in_flight, "a", 50 * MIB)
    with pytest.raises(Refusal):  # it is the worst itself
        in_flight.hold(slow, 20 * MIB)
    clock.now = 6.0
    in_flight.hold(upload, 10 * MIB)

    assert slow.is_cut_off
    assert in_flight.bytes == 60 * MIB
