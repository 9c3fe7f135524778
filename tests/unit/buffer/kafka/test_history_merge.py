"""What partitions bring becomes one order, and no partition keeps the others for ever."""

from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.kafka.history_merge import MOST_WAITING, PATIENCE_SECONDS, SETTLE_SECONDS, Merge


@given(
    st.lists(st.integers(0, 2), max_size=60),
    st.lists(st.integers(0, 2), max_size=100),
)
def test_what_was_there_before_the_start_comes_in_order_and_whole(
    owners: list[int], turns: list[int]
) -> None:
    merge: Merge[int, int] = Merge()
    merge.follow(range(3), 0.0)
    left = {owner: [at for at, own in enumerate(owners) if own == owner] for owner in range(3)}
    found: list[int] = []
    for turn in (*turns, *(owner for owner in range(3) for _ in range(61))):
        if left[turn]:
            at = left[turn].pop(0)
            merge.came(turn, (at, 0), at, 0.0)
        else:
            merge.reached_end(turn)
        found += merge.ready(0.0)

    assert found == list(range(len(owners)))


def test_what_comes_at_the_end_lies_a_moment_for_what_is_earlier() -> None:
    merge: Merge[str, str] = Merge()
    merge.follow("ab", 0.0)
    merge.reached_end("a")
    merge.reached_end("b")
    merge.came("b", (2, 0), "second", 1.0)
    merge.reached_end("b")
    assert merge.ready(1.0) == []
    merge.came("a", (1, 0), "first", 1.0 + SETTLE_SECONDS / 2)
    merge.reached_end("a")
    assert merge.ready(1.0 + SETTLE_SECONDS * 1.6) == ["first", "second"]


def test_a_partition_that_brings_nothing_keeps_the_others_for_seconds_only() -> None:
    merge: Merge[str, str] = Merge()
    merge.follow("ab", 0.0)
    merge.came("a", (1, 0), "x", 0.0)
    assert merge.ready(PATIENCE_SECONDS / 2) == []
    assert merge.ready(PATIENCE_SECONDS * 1.1) == ["x"]


def test_a_partition_that_is_far_ahead_is_to_bring_no_more_until_little_of_it_waits() -> None:
    merge: Merge[str, int] = Merge()
    merge.follow("ab", 0.0)
    for at in range(MOST_WAITING):
        merge.came("a", (at, 0), at, 0.0)
    assert merge.full() == {"a"}
    assert merge.hungry({"a"}) == set()
    merge.reached_end("b")
    merge.reached_end("a")
    assert len(merge.ready(0.0)) == MOST_WAITING
    assert merge.hungry({"a"}) == {"a"}
