import os
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from relay.process.sample.kept_traces import MOST_TRACES, KeptTraces

SECOND = 1_000_000_000


def ids(count: int) -> list[bytes]:
    return [os.urandom(16) for _ in range(count)]


def test_a_trace_is_known_once_it_was_put_in() -> None:
    kept = KeptTraces()
    one, other = ids(2)
    kept.add(one, 5)
    assert one in kept
    assert other not in kept


def test_what_is_needed_no_more_is_remembered_until_there_is_no_room() -> None:
    kept = KeptTraces(100)
    first, *rest = ids(150)
    kept.add(first, 1 * SECOND)
    kept.needed_since_ns = 10 * SECOND
    for trace_id in rest[:80]:
        kept.add(trace_id, 11 * SECOND)
    assert first in kept
    kept.needed_since_ns = 20 * SECOND
    for trace_id in rest[80:]:
        kept.add(trace_id, 21 * SECOND)
    assert first not in kept
    assert len(kept) <= 100
    assert kept.overflowed == 0


def test_beyond_the_bound_nothing_that_is_needed_is_lost() -> None:
    kept = KeptTraces(1000)
    many = ids(20_000)
    for n, trace_id in enumerate(many):
        kept.add(trace_id, n)
    assert all(trace_id in kept for trace_id in many)
    assert len(kept) <= 1000
    assert kept.overflowed == len(many) - 1000
    wrongly = sum(trace_id in kept for trace_id in ids(20_000))
    assert wrongly < 20


def test_after_an_overflow_the_filter_goes_with_its_generation() -> None:
    kept = KeptTraces(10)
    many = ids(50)
    for trace_id in many:
        kept.add(trace_id, 1 * SECOND)
    assert kept.overflowed == 40
    for second in (5, 9):
        kept.needed_since_ns = (second - 2) * SECOND
        for trace_id in ids(6):
            kept.add(trace_id, second * SECOND)
    assert not any(trace_id in kept for trace_id in many)
    assert kept.overflowed == 40


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=200), st.integers(1, 12))
def test_no_trace_is_forgotten_while_it_is_needed(steps: list[tuple[int, int]], most: int) -> None:
    kept, now, last_seen = KeptTraces(most), 1000, dict[bytes, int]()
    for number, passed in steps:
        now += passed
        kept.needed_since_ns = now - 10
        trace_id = bytes([number]) * 16
        kept.add(trace_id, now)
        last_seen[trace_id] = now
        assert all(each in kept for each, seen in last_seen.items() if seen >= now - 10)


def test_a_hundred_thousand_traces_take_few_megabytes() -> None:
    many = ids(3 * MOST_TRACES)
    tracemalloc.start()
    try:
        kept = KeptTraces()
        for trace_id in many:
            kept.add(bytes(bytearray(trace_id)), 1)
        used, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 16 * 2**20
