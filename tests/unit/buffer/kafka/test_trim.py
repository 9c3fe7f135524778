"""What may be deleted from the brokers: only what every group that may be owed it has settled."""

from hypothesis import given
from hypothesis import strategies as st

from relay.buffer.backlog_name import BacklogName
from relay.buffer.kafka.coordinator import Committed
from relay.buffer.kafka.trim import settled_by_all
from relay.model.records import Signal

A, B, LOGS = BacklogName("a"), BacklogName("b"), BacklogName("a", Signal.LOGS)
SPANS, MORE = ("spans", 0), ("spans", 1)
PARTITIONS = [(SPANS, Signal.TRACES), (MORE, Signal.TRACES), (("logs", 0), Signal.LOGS)]


def at(**offsets: int) -> Committed:
    """Commits of partition 0 and 1 of the topic of spans."""
    return {("spans", int(name[1:])): (offset, "") for name, offset in offsets.items()}


def test_the_group_that_is_farthest_behind_says_how_far_may_be_deleted() -> None:
    committed = {A: at(p0=10, p1=4), B: at(p0=7, p1=9)}

    assert settled_by_all(committed, [A], PARTITIONS) == {SPANS: 7, MORE: 4}


def test_nothing_goes_of_a_partition_that_a_group_has_committed_nothing_for() -> None:
    assert settled_by_all({A: at(p0=10, p1=4), B: at(p0=7)}, [A], PARTITIONS) == {SPANS: 7}


def test_nothing_goes_while_a_destination_of_this_relay_has_no_group() -> None:
    assert settled_by_all({A: at(p0=10)}, [A, B], PARTITIONS) == {}


def test_groups_of_another_signal_say_nothing_of_this_one() -> None:
    logs: Committed = {("logs", 0): (3, "")}

    assert settled_by_all({LOGS: logs}, [LOGS], PARTITIONS) == {("logs", 0): 3}
    assert settled_by_all({A: at(p0=5), LOGS: logs}, [LOGS], PARTITIONS) == {
        SPANS: 5,
        ("logs", 0): 3,
    }


@given(
    st.dictionaries(
        st.builds(BacklogName, st.sampled_from("abc"), st.sampled_from(Signal)),
        st.dictionaries(
            st.sampled_from([partition for partition, _ in PARTITIONS]),
            st.tuples(st.integers(0, 50), st.just("")),
        ),
    ),
    st.sets(st.builds(BacklogName, st.sampled_from("abc"), st.sampled_from(Signal))),
)
def test_no_group_is_owed_anything_below_what_is_deleted(
    committed: dict[BacklogName, Committed], own: set[BacklogName]
) -> None:
    signals = dict(PARTITIONS)
    for partition, offset in settled_by_all(committed, own, PARTITIONS).items():
        signal = signals[partition]
        of_signal = {key for key in committed.keys() | own if key.signal is signal}
        assert of_signal
        assert all(committed[key][partition][0] >= offset for key in of_signal)
