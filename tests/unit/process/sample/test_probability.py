"""The rules are those of OpenTelemetry's specification, the oracle its Python SDK."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace._sampling_experimental import (
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import TraceState

from relay.process.sample.probability import (
    NEVER,
    RatioSampler,
    parse,
    randomness_of,
    text_of,
    threshold_of,
)

ratios = st.floats(min_value=2**-50, max_value=1, exclude_max=True)
trace_ids = st.binary(min_size=16, max_size=16).filter(any).map(bytes.hex)
randomness = st.integers(0, NEVER - 1)


def id_of(random: int) -> str:
    return f"a1b2c3d4e5f6a7b8c9{random:014x}"


@pytest.mark.parametrize(
    ("one_in", "expected"),
    [
        (1, ("0", "0", "0")),
        (2, ("8", "8", "8")),
        (3, ("aab", "aaab", "aaaab")),
        (4, ("c", "c", "c")),
        (5, ("ccd", "cccd", "ccccd")),
        (8, ("e", "e", "e")),
        (10, ("e66", "e666", "e6666")),
        (16, ("f", "f", "f")),
        (100, ("fd71", "fd70a", "fd70a4")),
        (1000, ("ffbe7", "ffbe77", "ffbe76d")),
        (10_000, ("fff972", "fff9724", "fff97247")),
        (100_000, ("ffff584", "ffff583a", "ffff583a5")),
        (1_000_000, ("ffffef4", "ffffef39", "ffffef391")),
    ],
)
def test_thresholds_are_those_of_the_specifications_table(
    one_in: int, expected: tuple[str, str, str]
) -> None:
    assert tuple(text_of(threshold_of(1 / one_in, digits)) for digits in (3, 4, 5)) == expected


@given(ratios)
def test_a_threshold_is_as_near_to_its_ratio_as_its_digits_allow(ratio: float) -> None:
    kept = (NEVER - threshold_of(ratio)) / NEVER
    assert kept == pytest.approx(ratio, abs=ratio * 0.01 + 2**-16)
    assert len(text_of(threshold_of(ratio)).lstrip("f")) <= 5


def test_nothing_is_kept_by_ratio_0_and_all_by_ratio_1() -> None:
    for random in (0, NEVER - 1):
        assert not RatioSampler(0.0).keeps(id_of(random))
        assert RatioSampler(1.0).keeps(id_of(random))
    assert not RatioSampler(0.0).keeps(id_of(1), "ot=rv:ffffffffffffff")


@given(ratios, randomness)
def test_a_trace_is_kept_where_its_last_56_bits_are_not_below_the_threshold(
    ratio: float, random: int
) -> None:
    sampler = RatioSampler(ratio)
    assert sampler.keeps(id_of(random)) == (random >= sampler.threshold)
    assert sampler.keeps(id_of(sampler.threshold))
    assert not sampler.keeps(id_of(sampler.threshold - 1))


@given(ratios, ratios, trace_ids)
def test_what_a_smaller_ratio_keeps_a_larger_one_keeps(
    one: float, other: float, trace_id: str
) -> None:
    small, large = sorted((one, other))
    assert RatioSampler(large).keeps(trace_id) or not RatioSampler(small).keeps(trace_id)


@given(st.integers(1, 15).map(lambda n: n / 16), trace_ids)
def test_the_sdk_keeps_the_same_traces_and_writes_the_same_threshold(
    ratio: float, trace_id: str
) -> None:
    theirs = composite_sampler(composable_traceid_ratio_based(ratio)).should_sample(
        None, int(trace_id, 16), "span"
    )
    ours = RatioSampler(ratio)
    assert ours.keeps(trace_id) == (theirs.decision is Decision.RECORD_AND_SAMPLE)
    if ours.keeps(trace_id):
        assert theirs.trace_state is not None
        assert ours.marked(trace_id, "") == theirs.trace_state.to_header()


@given(ratios, trace_ids)
def test_a_relay_behind_an_sdk_of_the_same_ratio_takes_nothing_more_away(
    ratio: float, trace_id: str
) -> None:
    # But for the digits that are rounded away: one trace in 65,536 at most.
    theirs = composite_sampler(composable_traceid_ratio_based(ratio)).should_sample(
        None, int(trace_id, 16), "span"
    )
    ours = RatioSampler(ratio)
    kept = theirs.decision is Decision.RECORD_AND_SAMPLE
    if abs(randomness_of(trace_id) - ours.threshold) > (NEVER >> 16):
        assert ours.keeps(trace_id) == kept


@given(ratios, randomness)
def test_randomness_of_the_root_wins_over_the_id(ratio: float, random: int) -> None:
    sampler = RatioSampler(ratio)
    tracestate = f"vendor=1,ot=rv:{random:014x};x:y"
    for trace_id in (id_of(0), id_of(NEVER - 1)):
        assert sampler.keeps(trace_id, tracestate) == (random >= sampler.threshold)
        theirs = composite_sampler(composable_traceid_ratio_based(ratio)).should_sample(
            None, int(trace_id, 16), "span", trace_state=TraceState.from_header([tracestate])
        )
        if abs(random - sampler.threshold) > (NEVER >> 16):
            kept = theirs.decision is Decision.RECORD_AND_SAMPLE
            assert sampler.keeps(trace_id, tracestate) == kept


@pytest.mark.parametrize("broken", ["ot=rv:12345", "ot=rv:zzzzzzzzzzzzzz", "ot=", "rv:1", "ot"])
def test_randomness_that_is_none_leaves_it_to_the_id(broken: str) -> None:
    sampler = RatioSampler(0.5)
    assert sampler.keeps(id_of(NEVER - 1), broken)
    assert not sampler.keeps(id_of(0), broken)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "ot=th:c"),
        ("ot=th:0", "ot=th:c"),
        ("ot=th:8", "ot=th:c"),
        ("ot=th:e", "ot=th:e"),
        ("ot=th:e;rv:ef000000000000", "ot=th:e;rv:ef000000000000"),
        ("ot=rv:ef000000000000;th:8", "ot=th:c;rv:ef000000000000"),
        ("ot=k1:13;th:8;rv:EF000000000000", "ot=th:c;k1:13;rv:EF000000000000"),
        ("vendor=a", "ot=th:c,vendor=a"),
        ("vendor=a,ot=th:8,other=b", "ot=th:c,vendor=a,other=b"),
        (" vendor=a , ot = th:8 ", "ot=th:c,vendor=a"),
        ("ot=th:zz", "ot=th:c"),
        ("ot=th:", "ot=th:c"),
        ("ot=th:123456789abcdef", "ot=th:c"),
        ("ot=th:8,ot=th:e", "ot=th:c"),
        ("tenant@ot=th:e", "ot=th:c,tenant@ot=th:e"),
    ],
)
def test_the_higher_threshold_is_written(before: str, after: str) -> None:
    assert RatioSampler(0.25).marked(id_of(0xFFFFFFFFFFFFF0), before) == after


def test_a_threshold_that_its_own_randomness_contradicts_says_nothing() -> None:
    trace_id = id_of(0xD0000000000000)
    assert RatioSampler(0.25).marked(trace_id, "ot=th:e") == "ot=th:c"
    assert RatioSampler(0.25).marked(trace_id, "ot=th:e;rv:f0000000000000") == (
        "ot=th:e;rv:f0000000000000"
    )


def test_a_member_more_than_a_list_may_have_pushes_out_the_last_one() -> None:
    full = ",".join(f"k{n}=v" for n in range(32))
    marked = RatioSampler(0.25).marked(id_of(NEVER - 1), full)
    assert marked.split(",") == ["ot=th:c", *(f"k{n}=v" for n in range(31))]


def test_a_member_that_would_be_too_long_is_left_without_a_threshold() -> None:
    own = f"k1:{'x' * 250}"
    assert RatioSampler(0.25).marked(id_of(NEVER - 1), f"ot={own}") == f"ot={own}"
    assert RatioSampler(0.25).marked(id_of(NEVER - 1), f"ot=th:8;{own}") == f"ot={own}"


@given(st.lists(ratios, min_size=1, max_size=4), trace_ids)
def test_samplers_in_a_row_come_to_the_smallest_ratio_in_any_order(
    several: list[float], trace_id: str
) -> None:
    def through(chain: list[float]) -> str | None:
        tracestate = ""
        for ratio in chain:
            sampler = RatioSampler(ratio)
            if not sampler.keeps(trace_id, tracestate):
                return None
            tracestate = sampler.marked(trace_id, tracestate)
        return tracestate

    smallest = RatioSampler(min(several))
    expected = smallest.marked(trace_id, "") if smallest.keeps(trace_id) else None
    assert through(several) == through(several[::-1]) == expected


def test_counts_stay_right_behind_an_sdk_that_samples_some() -> None:
    # Each kept span stands for 2**56 / (2**56 - th): of all together that is what there was.
    total = 4096
    sampler, counted = RatioSampler(0.25), 0.0
    for n in range(total):
        trace_id = id_of((n * NEVER) // total)
        upstream = RatioSampler((1.0, 0.5, 0.125)[n % 3])
        if not upstream.keeps(trace_id):
            continue
        tracestate = upstream.marked(trace_id, "") if upstream.ratio < 1 else ""
        if not sampler.keeps(trace_id, tracestate):
            continue
        threshold = parse(sampler.marked(trace_id, tracestate)).threshold
        assert threshold is not None
        counted += NEVER / (NEVER - threshold)
    assert counted == pytest.approx(total, rel=0.02)


@given(st.text(max_size=300), trace_ids)
def test_no_tracestate_is_too_strange(tracestate: str, trace_id: str) -> None:
    sampler = RatioSampler(0.5)
    sampler.keeps(trace_id, tracestate)
    marked = sampler.marked(trace_id, tracestate)
    assert parse(marked).others == parse(tracestate).others[:31] or marked == tracestate
