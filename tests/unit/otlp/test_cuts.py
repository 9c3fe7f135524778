"""Groups of spans within a limit."""

from relay.otlp.cuts import SizedSpan, group_spans


def sized(*places: tuple[int, int, int], span_bytes: int = 10) -> list[SizedSpan]:
    return [SizedSpan(*place, span_bytes, 5, 20) for place in places]


def sizes(groups: list[list[SizedSpan]]) -> list[int]:
    return [len(group) for group in groups]


def test_spans_of_one_scope_share_what_is_around_them() -> None:
    spans = sized((0, 0, 0), (0, 0, 1), (0, 0, 2))

    assert sizes(group_spans(spans, 55)) == [3]
    assert sizes(group_spans(spans, 54)) == [2, 1]


def test_another_scope_or_resource_costs_its_envelope() -> None:
    assert sizes(group_spans(sized((0, 0, 0), (0, 1, 0), span_bytes=20), 70)) == [2]
    assert sizes(group_spans(sized((0, 0, 0), (0, 1, 0), span_bytes=20), 69)) == [1, 1]
    assert sizes(group_spans(sized((0, 0, 0), (1, 0, 0)), 70)) == [2]
    assert sizes(group_spans(sized((0, 0, 0), (1, 0, 0)), 69)) == [1, 1]


def test_span_that_is_too_large_is_a_group_of_its_own() -> None:
    spans = [*sized((0, 0, 0)), *sized((0, 0, 1), span_bytes=999), *sized((0, 0, 2))]

    assert sizes(group_spans(spans, 60)) == [1, 1, 1]


def test_nothing_makes_no_group() -> None:
    assert group_spans([], 10) == []


def test_large_resource_is_not_repeated_for_each_span() -> None:
    spans = [SizedSpan(0, 0, k, 10, 5, 995) for k in range(250)]
    groups = group_spans(spans, 50)

    assert sizes(groups) == [100, 100, 50]
    assert sum(1000 + 10 * len(group) for group in groups) < 3 * (1000 + 10 * 250)
