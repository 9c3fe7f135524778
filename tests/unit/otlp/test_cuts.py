"""Groups of spans within a limit."""

from relay.otlp.cuts import SizedItem, group_items


def sized(*places: tuple[int, int, int], span_bytes: int = 10) -> list[SizedItem]:
    return [SizedItem(place, span_bytes, (20, 5)) for place in places]


def sizes(groups: list[list[SizedItem]]) -> list[int]:
    return [len(group) for group in groups]


def test_spans_of_one_scope_share_what_is_around_them() -> None:
    spans = sized((0, 0, 0), (0, 0, 1), (0, 0, 2))

    assert sizes(group_items(spans, 55)) == [3]
    assert sizes(group_items(spans, 54)) == [2, 1]


def test_another_scope_or_resource_costs_its_envelope() -> None:
    assert sizes(group_items(sized((0, 0, 0), (0, 1, 0), span_bytes=20), 70)) == [2]
    assert sizes(group_items(sized((0, 0, 0), (0, 1, 0), span_bytes=20), 69)) == [1, 1]
    assert sizes(group_items(sized((0, 0, 0), (1, 0, 0)), 70)) == [2]
    assert sizes(group_items(sized((0, 0, 0), (1, 0, 0)), 69)) == [1, 1]


def test_span_that_is_too_large_is_a_group_of_its_own() -> None:
    spans = [*sized((0, 0, 0)), *sized((0, 0, 1), span_bytes=999), *sized((0, 0, 2))]

    assert sizes(group_items(spans, 60)) == [1, 1, 1]


def test_nothing_makes_no_group() -> None:
    assert group_items([], 10) == []


def test_large_resource_is_not_repeated_for_each_span() -> None:
    spans = [SizedItem((0, 0, k), 10, (995, 5)) for k in range(250)]
    groups = group_items(spans, 50)

    assert sizes(groups) == [100, 100, 50]
    assert sum(1000 + 10 * len(group) for group in groups) < 3 * (1000 + 10 * 250)


def test_metric_around_points_is_paid_once_a_group_and_metric() -> None:
    points = [SizedItem((0, 0, k, n), 10, (20, 5, 30)) for k in range(2) for n in range(3)]

    assert sizes(group_items(points, 55 + 30 + 30 + 30)) == [6]
    assert sizes(group_items(points, 55 + 30 + 30 + 29)) == [5, 1]
    assert sizes(group_items(points, 55 + 30 + 39)) == [3, 3]
    # The same index in another scope is another metric.
    others = [SizedItem((0, scope, 0, 0), 11, (20, 5, 30)) for scope in range(2)]
    assert sizes(group_items(others, 111)) == [1, 1]
