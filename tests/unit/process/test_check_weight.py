"""Each bound of what the event loop looks at is kept to the last one that it allows."""

from types import SimpleNamespace
from typing import Any

import pytest

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding
from relay.otlp.messages_metrics import (
    ExportMetricsServiceRequest,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from relay.otlp.signals import METRICS, TRACES
from relay.process.check import weight

LISTS = TRACES.lists[Encoding.JSON]
METRIC_LISTS = METRICS.lists[Encoding.JSON]
KIB = 1024


def request(*resources: list[int]) -> Any:
    """Of each resource how many spans each of its scopes holds."""
    return SimpleNamespace(
        resourceSpans=[
            SimpleNamespace(scopeSpans=[SimpleNamespace(spans=range(spans)) for spans in scopes])
            for scopes in resources
        ]
    )


@pytest.mark.parametrize(
    ("most", "more"),
    [
        ([[]] * 1000, [[]] * 1001),
        ([[0] * 5000], [[0] * 5001]),
        ([[0] * 2500, [0] * 2500], [[0] * 2501, [0] * 2500]),
        ([[5000]], [[5001]]),
        ([[2500], [1000, 1500]], [[2500], [1000, 1501]]),
    ],
    ids=["resources", "scopes", "scopes of two", "spans", "spans of two"],
)
def test_so_many_messages_are_looked_at_in_the_loop(
    most: list[list[int]], more: list[list[int]]
) -> None:
    weight.refuse_many_messages(request(*most), LISTS)
    with pytest.raises(TooHeavy):
        weight.refuse_many_messages(request(*more), LISTS)


def metrics(*metrics: Metric) -> ExportMetricsServiceRequest:
    """Each in a scope and resource of its own."""
    return ExportMetricsServiceRequest(
        resourceMetrics=[ResourceMetrics(scopeMetrics=[ScopeMetrics(metrics=[m])]) for m in metrics]
    )


def gauge(points: int) -> Metric:
    return Metric(gauge=Gauge(dataPoints=[NumberDataPoint()] * points))


def histogram(counts: int, bounds: int) -> Metric:
    point = HistogramDataPoint(bucketCounts=["1"] * counts, explicitBounds=[1.0] * bounds)
    return Metric(histogram=Histogram(dataPoints=[point]))


def test_so_many_points_are_looked_at_in_the_loop() -> None:
    weight.refuse_many_messages(metrics(gauge(2500), gauge(2500)), METRIC_LISTS)
    with pytest.raises(TooHeavy):
        weight.refuse_many_messages(metrics(gauge(2500), gauge(2501)), METRIC_LISTS)


def test_so_many_numbers_of_histograms_are_looked_at_in_the_loop() -> None:
    first = histogram(10_000, 10_000)
    weight.refuse_many_messages(metrics(first, histogram(10_000, 10_000)), METRIC_LISTS)
    with pytest.raises(TooHeavy):
        weight.refuse_many_messages(metrics(first, histogram(10_001, 10_000)), METRIC_LISTS)


def around(resource: int, scope: int) -> Any:
    return SimpleNamespace(
        resourceSpans=[
            SimpleNamespace(
                resource=SimpleNamespace(attributes=range(resource)),
                scopeSpans=[SimpleNamespace(scope=SimpleNamespace(attributes=range(scope)))],
            )
        ]
    )


def test_so_many_attributes_may_be_around_spans_in_protobuf() -> None:
    weight.refuse_many_around(around(250, 250), LISTS)
    for more in (around(251, 0), around(0, 251)):
        with pytest.raises(TooHeavy):
            weight.refuse_many_around(more, LISTS)


def test_so_many_links_and_flawed_spans_are_looked_at_in_the_loop() -> None:
    weight.refuse_many_links([range(1500), range(2500)])
    with pytest.raises(TooHeavy):
        weight.refuse_many_links([range(1501), range(2500)])
    spans = [SimpleNamespace(links=range(1))] * 1000
    weight.refuse_many_flawed(spans)
    with pytest.raises(TooHeavy):
        weight.refuse_many_flawed([*spans, SimpleNamespace(links=())])


def test_so_many_commas_are_read_the_exact_way_in_the_loop() -> None:
    weight.refuse_many_tokens(b"," * 3000)
    with pytest.raises(TooHeavy):
        weight.refuse_many_tokens(b"," * 3001)


@pytest.mark.parametrize("empty", [b"\x0a\0", b"\x12\0"])
def test_empty_fields_are_too_many_for_the_loop_in_a_long_body_alone(empty: bytes) -> None:
    short, filler = 128 * KIB, b"x" * 128 * KIB
    weight.refuse_many_empty_fields((empty * short)[:short])
    weight.refuse_many_empty_fields(empty * 10_000 + filler)
    with pytest.raises(TooHeavy):
        weight.refuse_many_empty_fields(empty * 10_001 + filler)


def test_so_many_messages_are_believed_of_a_body_for_its_bytes() -> None:
    """Ten thousand of any body, and one more for each 16 bytes."""
    full = request([10_001])
    weight.refuse_empty_messages(full, LISTS, 16)
    with pytest.raises(Refusal, match=r"more than 10000 messages.* its 15 bytes") as refusal:
        weight.refuse_empty_messages(full, LISTS, 15)

    assert (refusal.value.status, refusal.value.grpc_code) == (413, 8)


def test_so_many_empty_fields_are_believed_of_a_body_for_its_bytes() -> None:
    most = 11_428  # of two bytes each: 10,000 and 22,856 / 16
    weight.refuse_empty_fields(b"\x0a\0" * most)
    with pytest.raises(Refusal, match="most of them must be empty"):
        weight.refuse_empty_fields(b"\x0a\0" * (most + 1))


def dense(part: bytes, times: int, size: int) -> bytes:
    """So many of `part` in each stretch of 509 bytes.

    A prime, so that the looks begin at ever other places of a stretch: wherever the first begins,
    few of them cut through a part.
    """
    return ((part * times).ljust(509, b" ")) * (size // 509)


def test_few_bytes_hold_too_few_objects_to_be_looked_at() -> None:
    weight.refuse_many_objects(b"{" * 29_999)
    with pytest.raises(TooHeavy):
        weight.refuse_many_objects(b"{" * 30_000)


@pytest.mark.parametrize(
    ("usual", "heavy"),
    [
        ((b'{"key":', 11), (b'{"key":', 23)),  # 22,528 or 47,104 in a MiB; 41,457 are allowed
        ((b'{{{"key":', 4), (b'{{{"key":', 6)),  # one in three: 8,192 or 12,288 without keys
        ((b"{", 4), (b"{", 6)),  # as many; 10,000 are
        ((b",", 90), (b",", 105)),  # 184,320 or 215,040; 200,000 are
    ],
    ids=["objects", "some bare", "all bare", "commas"],
)
def test_what_one_look_in_sixteen_finds_is_counted_sixteen_times(
    usual: tuple[bytes, int], heavy: tuple[bytes, int]
) -> None:
    size = 1024 * KIB
    weight.refuse_many_objects(dense(*usual, size))
    with pytest.raises(TooHeavy):
        weight.refuse_many_objects(dense(*heavy, size))
