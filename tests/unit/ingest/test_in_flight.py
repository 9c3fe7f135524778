"""Who gets room for a body, and whose body goes for it."""

import gc
import weakref

import pytest

from relay.ingest.in_flight import SMALL_BYTES, Body, InFlight, cut_off_refusal
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
    clock.now = 60.0
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


async def test_room_is_made_by_the_unfinished_body_of_another_that_holds_no_less(
    in_flight: InFlight,
) -> None:
    """At the same instant too, and behind bodies that are whole or of somebody who holds less."""
    await body(in_flight, "a", 1 * MIB, is_whole=True)
    smaller = await body(in_flight, "c", 1 * MIB)
    unfinished = await body(in_flight, "a", 39 * MIB)
    await body(in_flight, "b", 40 * MIB, is_whole=True)
    await body(in_flight, "b", 20 * MIB, is_whole=True)

    assert (smaller.is_cut_off, unfinished.is_cut_off) == (False, True)
    assert in_flight.bytes == 62 * MIB


async def test_who_holds_its_share_gets_no_more_at_the_cost_of_another(
    in_flight: InFlight,
) -> None:
    other = await body(in_flight, "b", 20 * MIB)
    await body(in_flight, "a", 10 * MIB, is_whole=True)
    with pytest.raises(Refusal, match="this sender hold half"):
        await body(in_flight, "a", 60 * MIB, is_whole=True)

    assert not other.is_cut_off


async def test_body_of_one_byte_gives_way_as_any_other() -> None:
    in_flight = InFlight(10)
    unfinished = await body(in_flight, "a", 1)
    await body(in_flight, "b", 10, is_whole=True)

    assert unfinished.is_cut_off


async def test_body_that_grows_to_be_the_worst_cuts_off_no_other(
    in_flight: InFlight, clock: Clock
) -> None:
    other, growing = await body(in_flight, "a", 50 * MIB), await body(in_flight, "a", 40 * MIB)
    clock.now = 1.0
    with pytest.raises(Refusal):
        in_flight.hold(growing, 20 * MIB)

    assert not other.is_cut_off


async def test_body_is_small_up_to_a_mebibyte_and_counts_as_large_beyond(
    in_flight: InFlight,
) -> None:
    await body(in_flight, "a", 60 * MIB, is_whole=True)
    await body(in_flight, "b", 34 * MIB, is_whole=True)
    small = await body(in_flight, "c", SMALL_BYTES, is_whole=True)
    other = await body(in_flight, "d", SMALL_BYTES * 3 // 2, is_whole=True)
    with pytest.raises(Refusal):  # it would be one of the large ones, which have 95.5 of 96 MiB
        in_flight.hold(small, SMALL_BYTES // 2)
    in_flight.release(other)
    in_flight.hold(small, SMALL_BYTES // 2)
    with pytest.raises(Refusal):
        await body(in_flight, "d", SMALL_BYTES * 3 // 2, is_whole=True)


async def test_large_body_that_grows_is_counted_once(in_flight: InFlight) -> None:
    await body(in_flight, "a", 50 * MIB, is_whole=True)
    growing = await body(in_flight, "b", 20 * MIB, is_whole=True)
    in_flight.hold(growing, 20 * MIB)

    assert in_flight.bytes == 90 * MIB


async def test_what_was_counted_before_it_was_listed_is_counted_once(in_flight: InFlight) -> None:
    made = Body()
    made.sender, made.is_whole = Sender("a"), True
    made.bytes = in_flight.bytes = 60 * MIB
    in_flight.hold(made, 1 * MIB)
    assert (made.bytes, in_flight.bytes) == (61 * MIB, 61 * MIB)
    await body(in_flight, "b", 1, is_whole=True)
    with pytest.raises(Refusal, match="this sender hold half"):
        await body(in_flight, "a", 4 * MIB, is_whole=True)
    in_flight.release(made)

    assert in_flight.bytes == 1


async def test_nothing_is_kept_of_a_body_that_is_released(in_flight: InFlight) -> None:
    made = await body(in_flight, "a", 1)
    left = weakref.ref(made)
    in_flight.release(made)
    del made

    gc.collect()
    assert left() is None


async def test_who_was_turned_away_last_counts_for_a_minute_from_then(
    in_flight: InFlight, clock: Clock
) -> None:
    held = [await body(in_flight, "d", size * MIB, is_whole=True) for size in (60, 36)]
    for at, sender in ((0.0, "a"), (0.0, "b"), (50.0, "a"), (50.0, "c")):
        clock.now = at
        with pytest.raises(Refusal):
            await body(in_flight, sender, 40 * MIB, is_whole=True)
    for each in held:
        in_flight.release(each)
    await body(in_flight, "c", 20 * MIB, is_whole=True)
    clock.now = 109.9
    with pytest.raises(Refusal, match="this sender hold half"):
        await body(in_flight, "c", 50 * MIB, is_whole=True)
    clock.now = 170.0
    await body(in_flight, "c", 50 * MIB, is_whole=True)


class Reader:
    """Who reads a body."""

    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


async def test_who_reads_a_body_that_is_cut_off_is_cancelled_and_can_say_why(
    in_flight: InFlight,
) -> None:
    unfinished, reader = await body(in_flight, "a", 90 * MIB), Reader()
    unfinished.task = reader
    await body(in_flight, "b", 60 * MIB, is_whole=True)

    assert reader.is_cancelled
    refusal = cut_off_refusal()
    assert (refusal.status, refusal.grpc_code) == (503, 14)
    assert "cut off" in str(refusal)


async def test_of_however_many_that_are_turned_away_two_are_remembered(
    in_flight: InFlight,
) -> None:
    """One that is not oneself is enough, and addresses are made up by the thousand."""
    await body(in_flight, "a", 128 * MIB, is_whole=True)
    for number in range(100):
        with pytest.raises(Refusal):
            await body(in_flight, f"sender {number}", 1, is_whole=True)

    assert list(in_flight._turned_away) == ["sender 98", "sender 99"]
