"""What is known of an upstream after it has answered."""

from collections.abc import Callable

from relay.config import DestinationConfig
from relay.deliver.learnt import (
    FRESH_SECONDS,
    GROW_AFTER,
    PAUSE_SECONDS,
    BatchLimits,
    Evidence,
    Learnt,
)
from relay.model.records import BodyFlag, Encoding, OwedRange, Position, StoredRow, Taken
from relay.process.steps.run import Steps

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]


def test_learnt_encodings_know_nothing_at_first_and_are_kept_by_what_came_in(
    settings: Settings, row: Row
) -> None:
    learnt, fixed = Learnt(settings()), Learnt(settings(encoding="json"))
    json = Taken((row(1),), ())
    protobuf = Taken((row(2, b"", encoding=Encoding.PROTOBUF),), ())
    assert (learnt.encoding_of(json), learnt.notes()) == (Encoding.JSON, [])

    learnt.learn_encoding(Encoding.JSON, Encoding.PROTOBUF, 415)
    fixed.learn_encoding(Encoding.JSON, Encoding.PROTOBUF, 415)

    for taken in (json, protobuf):
        assert learnt.encoding_of(taken) is Encoding.PROTOBUF
    assert fixed.encoding_of(json) is Encoding.JSON
    assert learnt.notes() == ["refuses JSON (415): sent as protobuf"]

    learnt.learn_encoding(Encoding.JSON, Encoding.JSON, 415)
    assert (learnt.encoding_of(json), learnt.notes()) == (Encoding.JSON, [])


def test_steps_are_made_once_for_settings_that_ask_for_some(settings: Settings) -> None:
    learnt = Learnt(settings(match="name == 'x'"))

    assert isinstance(learnt.steps, Steps)
    assert learnt.steps is learnt.steps
    assert Learnt(settings()).steps is None


def test_what_passes_widens_the_limits_and_is_evidence(settings: Settings) -> None:
    learnt = Learnt(settings(max_batch_items=100))
    learnt.limits.narrow(1)
    learnt.passed(taken_of(100, items=1), Encoding.JSON, 1.0)

    assert learnt.limits.max_items == 2
    assert learnt.evidence.passes == {Encoding.JSON: 1}


def taken_of(size: int, *, items: int = 10) -> Taken:
    return Taken((StoredRow(1, 1001, Encoding.JSON, BodyFlag.NONE, items, b"x" * size),), ())


def limits_after_413(settings: Settings, size: int) -> BatchLimits:
    limits = BatchLimits(settings(max_batch_bytes=1_000_000))
    limits.too_large(taken_of(size))
    return limits


def test_limit_of_bytes_grows_a_little_at_a_time_after_a_413(settings: Settings) -> None:
    limits = limits_after_413(settings, 80_000)
    seen = [limits.max_bytes]
    for _ in range(3):
        for _ in range(GROW_AFTER - 1):
            limits.passed(taken_of(limits.max_bytes))
        assert limits.max_bytes == seen[-1]
        limits.passed(taken_of(limits.max_bytes))
        seen.append(limits.max_bytes)

    assert seen == [40_000, 50_000, 57_500, 63_125]


def test_limit_of_bytes_never_comes_back_to_what_was_refused(settings: Settings) -> None:
    limits = limits_after_413(settings, 80_000)
    for _ in range(60 * GROW_AFTER):
        limits.passed(taken_of(limits.max_bytes))

    assert 79_900 < limits.max_bytes < 80_000
    assert limits.is_too_large(taken_of(80_000))
    assert not limits.is_too_large(taken_of(79_999))


def test_limit_of_bytes_does_not_grow_by_requests_far_below_it(settings: Settings) -> None:
    limits = limits_after_413(settings, 80_000)
    for _ in range(10 * GROW_AFTER):
        limits.passed(taken_of(29_999))

    assert limits.max_bytes == 40_000


def test_limit_of_bytes_goes_on_where_as_much_got_through_after_all(settings: Settings) -> None:
    """It was not the size: other content of as many bytes is taken."""
    limits = limits_after_413(settings, 80_000)
    limits.passed(taken_of(80_000))

    assert not limits.is_too_large(taken_of(99_999))
    assert limits.is_too_large(taken_of(100_000))


def test_limit_of_bytes_stays_below_what_was_refused_when_more_is_refused(
    settings: Settings,
) -> None:
    limits = limits_after_413(settings, 80_000)
    limits.too_large(taken_of(160_000))  # a row that is longer by itself
    assert limits.max_bytes == 40_000

    limits.passed(taken_of(50_000))
    limits.too_large(taken_of(400_000))
    assert limits.max_bytes == 50_000


def test_limit_of_bytes_is_not_learnt_from_one_large_item(settings: Settings) -> None:
    limits = BatchLimits(settings(max_batch_bytes=1_000_000))
    limits.too_large(taken_of(80_000, items=1))
    assert limits.max_bytes == 1_000_000

    limits.too_large(taken_of(80_000, items=2))
    assert limits.max_bytes == 40_000


def test_search_that_came_down_to_one_item_goes_on_with_one(settings: Settings) -> None:
    limits = BatchLimits(settings(max_batch_items=3))
    limits.narrow(1)

    assert (limits.max_items, limits.items_to_send(taken_of(100))) == (1, 1)
    limits.passed(taken_of(100, items=1))
    assert limits.max_items == 2
    limits.passed(taken_of(100, items=2))
    assert limits.max_items == 3


def condemns(evidence: Evidence, row: int, now: float, *, is_too_large: bool = False) -> bool:
    """Whether a lone row, refused at `now`, may be given up."""
    stored = StoredRow(row, 1001, Encoding.JSON, BodyFlag.NONE, 1, b"x")
    taken = Taken((stored,), (OwedRange(Position(row), Position(row + 1)),))
    return evidence.condemns_lone(taken, Encoding.JSON, now, is_too_large=is_too_large)


def test_lone_item_is_given_up_at_its_second_refusal_after_a_pause_once_for_each_success() -> None:
    evidence = Evidence()
    evidence.passed(Encoding.JSON, 0.0)
    assert not condemns(evidence, 1, 10.0)
    assert not condemns(evidence, 1, 9.9 + PAUSE_SECONDS)
    assert condemns(evidence, 1, 10.0 + PAUSE_SECONDS)

    assert not condemns(evidence, 2, 20.0)
    assert not condemns(evidence, 2, 40.0)
    evidence.passed(Encoding.PROTOBUF, 40.0)
    assert not condemns(evidence, 2, 60.0)
    evidence.passed(Encoding.JSON, 60.0)
    assert condemns(evidence, 2, 80.0)


def test_lone_item_is_not_given_up_for_a_success_of_long_ago() -> None:
    evidence = Evidence()
    evidence.passed(Encoding.JSON, 0.0)
    assert not condemns(evidence, 1, 0.0)
    assert not condemns(evidence, 1, FRESH_SECONDS + 1)
    assert condemns(evidence, 1, FRESH_SECONDS)


def test_lone_item_that_is_too_large_needs_no_success_but_the_next_one_does() -> None:
    evidence = Evidence()
    assert not condemns(evidence, 1, 0.0, is_too_large=True)
    assert condemns(evidence, 1, 10.0, is_too_large=True)

    assert not condemns(evidence, 2, 20.0, is_too_large=True)
    assert not condemns(evidence, 2, 40.0, is_too_large=True)
    evidence.passed(Encoding.JSON, 50.0)
    assert condemns(evidence, 2, 60.0, is_too_large=True)


def test_items_are_halved_after_a_timeout_down_to_one_and_doubled_as_requests_pass(
    settings: Settings,
) -> None:
    limits = BatchLimits(settings(max_batch_items=64))
    assert (limits.max_items, limits.is_narrowed) == (64, False)
    for items, half in ((1, 1), (9, 4)):
        limits.too_slow(taken_of(10, items=items))
        assert limits.max_items == half
    for doubled in (8, 16, 32, 64):
        limits.passed(taken_of(10))
        assert limits.max_items == doubled

    limits.narrow(16)
    assert limits.is_narrowed is True
    limits.passed(taken_of(10))
    assert limits.is_narrowed is True
    limits.passed(taken_of(10))
    assert limits.is_narrowed is False


def test_row_that_is_too_long_is_sent_in_parts_of_the_bytes_that_pass(settings: Settings) -> None:
    limits = BatchLimits(settings(max_batch_bytes=4000))

    assert limits.items_to_send(taken_of(4000, items=100)) == 100
    assert limits.items_to_send(taken_of(8000, items=100)) == 50
    assert limits.items_to_send(taken_of(4001, items=1)) == 1


def test_bytes_grow_by_quarters_of_what_is_left_and_stay_below_what_was_refused(
    settings: Settings,
) -> None:
    limits = BatchLimits(settings(max_batch_bytes=4000))
    limits.too_large(taken_of(1000))
    assert limits.max_bytes == 500
    for _ in range(2 * GROW_AFTER):
        limits.passed(taken_of(374))  # less than three quarters of what is allowed: no sign
    assert limits.max_bytes == 500
    for grown in (625, 718):
        for _ in range(GROW_AFTER - 1):
            limits.passed(taken_of(-(-limits.max_bytes * 3 // 4)))
        assert limits.max_bytes < grown
        limits.passed(taken_of(-(-limits.max_bytes * 3 // 4)))
        assert limits.max_bytes == grown


def test_bytes_that_passed_and_are_refused_by_now_are_no_limit_any_more(settings: Settings) -> None:
    limits = BatchLimits(settings(max_batch_bytes=4000))
    limits.too_large(taken_of(1000))
    limits.passed(taken_of(300))
    limits.too_large(taken_of(300))

    assert limits.max_bytes == 150


def test_lone_item_is_condemned_by_a_success_of_the_last_minutes_at_any_time_of_the_clock() -> None:
    for passed_at, may_go in ((10_000.0, True), (10_000.0 - FRESH_SECONDS, False)):
        evidence, lone = Evidence(), taken_of(10, items=1)
        evidence.passed(Encoding.JSON, passed_at)
        first, second = (
            evidence.condemns_lone(lone, Encoding.JSON, at, is_too_large=False)
            for at in (10_001.0, 10_001.0 + PAUSE_SECONDS)
        )
        assert (first, second) == (False, may_go)
