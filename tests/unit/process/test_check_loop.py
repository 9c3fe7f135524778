"""What hostile bodies cost the event loop: each is answered in little time, or too heavy for it.

Times are of this thread's processor, the least of some runs, against bounds that are several times
what was measured; what these tests hold off took ten times as much.
"""

import time
from typing import Any, Final

import pytest

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding, Sender, Signal
from relay.otlp import native
from relay.otlp.protobuf_writer import delimited
from relay.process.check.weight import MOST_NUMBERS, NEVER_HEAVY_BYTES, is_heavy
from relay.process.prepare import Prepare, PrepareSettings
from tests.support import builders
from tests.support.dense_bodies import (
    DENSE,
    MOST_TIMES,
    NOW_NS,
    histogram,
    request,
    seconds_of_usual_spans,
)

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
SENDER: Final = Sender("192.0.2.1")
ENTRY, SCOPE, RECORD = b"\x0a", b"\x12", b"\x12"
NAME, GAUGE, POINT = b"\x0a", b"\x2a", b"\x0a"
UNKNOWN: Final = b"\xf8\x0f\x00" * 150_000  # field 255: 0


def gauge(name: bytes, points: bytes) -> bytes:
    return delimited(RECORD, delimited(NAME, name) + delimited(GAUGE, points))


def seconds(
    body: bytes, encoding: Encoding, signal: Signal, *, native_pass: Any = native.MODULE
) -> float:
    """What the loop needs until the body is prepared, refused or found too heavy."""
    took = []
    for _ in range(4):
        prepare = Prepare(PrepareSettings(), clock_ns=lambda: NOW_NS, native_pass=native_pass)
        began = time.thread_time()
        try:
            if not is_heavy(body, encoding):
                is_bounded = len(body) > NEVER_HEAVY_BYTES
                prepare(body, encoding, SENDER, signal=signal, is_bounded=is_bounded)
        except (TooHeavy, Refusal):
            pass
        took.append(time.thread_time() - began)
    return min(took)


@pytest.mark.parametrize(
    ("body", "signal"),
    [
        (request(delimited(RECORD, UNKNOWN)), Signal.LOGS),
        (request(delimited(RECORD, b"\x0a\x01x" + UNKNOWN)), Signal.LOGS),
        (request(delimited(RECORD, b"\x09" + bytes(8) + UNKNOWN)), Signal.METRICS),
        (delimited(ENTRY, delimited(SCOPE, UNKNOWN)), Signal.TRACES),
        (delimited(ENTRY, UNKNOWN), Signal.TRACES),
        (UNKNOWN, Signal.METRICS),
    ],
    ids=["record", "strange record", "metric", "scope", "entry", "request"],
)
def test_fields_that_are_not_known_are_not_looked_at_one_by_one(
    body: bytes, signal: Signal
) -> None:
    """Each would be an object of Python: 450 KB of them took 370 ms."""
    assert seconds(body, PROTOBUF, signal) < 0.05


@pytest.mark.parametrize("item", [b"\x12\x01\x0a", b"\x12\x01\x08", b"\x12\x02\x0a\x05"])
@pytest.mark.parametrize("signal", list(Signal), ids=lambda signal: signal.name.lower())
@pytest.mark.parametrize("size", [NEVER_HEAVY_BYTES, 8192])
def test_small_body_of_broken_items_is_not_mended_for_long(
    size: int, signal: Signal, item: bytes
) -> None:
    """2,700 of them, in 8 KiB, took 70 ms."""
    assert seconds(request(item * ((size - 20) // len(item))), PROTOBUF, signal) < 0.03


@pytest.mark.parametrize(
    "body",
    [
        request(gauge(b"m", delimited(POINT, b"") * 9_990)),
        request(gauge(b"", delimited(POINT, b"")) * 9_990),
    ],
    ids=["points of one metric", "metrics"],
)
def test_points_to_reject_are_not_taken_one_by_one_for_long(body: bytes) -> None:
    """Ten thousand took 37 and 50 ms."""
    assert seconds(body, PROTOBUF, Signal.METRICS) < 0.03


@pytest.mark.parametrize(
    ("member", "number"),
    [("bucketCounts", "0"), ("bucketCounts", '"0"'), ("explicitBounds", "0")],
)
def test_so_many_numbers_of_histograms_are_made_normal_in_the_loop(
    member: str, number: str
) -> None:
    """Half a million, in a body that holds a dozen objects, took 60 ms."""
    check = Prepare(PrepareSettings(), clock_ns=lambda: NOW_NS).check
    many = histogram(member, number, MOST_NUMBERS + 1)

    with pytest.raises(TooHeavy):
        check(many, JSON, signal=Signal.METRICS, is_bounded=True)
    assert check(many, JSON, signal=Signal.METRICS).items == 1
    few = histogram(member, number, MOST_NUMBERS)
    assert check(few, JSON, signal=Signal.METRICS, is_bounded=True).items == 1


def test_json_of_broken_items_is_not_read_for_long() -> None:
    """Ten thousand numbers in the place of spans took 36 ms."""
    body = builders.to_body({"resourceSpans": [{"scopeSpans": [{"spans": [1] * 9_990}]}]})

    assert seconds(body, JSON, Signal.TRACES) < 0.02


@pytest.mark.parametrize("native_pass", [native.MODULE, None], ids=["native", "pure"])
@pytest.mark.parametrize("name", DENSE)
def test_what_is_dense_but_not_too_dense_holds_the_loop_up_for_milliseconds(
    name: str, native_pass: Any
) -> None:
    """Up to 23 ms, natively too: points of which some are rejected are read three times."""
    usual = min(seconds_of_usual_spans() for _ in range(4))

    assert seconds(*DENSE[name], native_pass=native_pass) < MOST_TIMES * usual


@pytest.mark.parametrize("name", ["points without a value", "empty records", "numbers"])
def test_native_pass_leaves_to_the_offload_process_what_it_has_no_time_for(name: str) -> None:
    module = pytest.importorskip("otlp_relay_native", reason="not built: make native")
    body, encoding, signal = DENSE[name]
    prepare = Prepare(PrepareSettings(), clock_ns=lambda: NOW_NS, native_pass=module)

    with pytest.raises(TooHeavy):
        prepare(body, encoding, SENDER, signal=signal, is_bounded=True)
    assert prepare(body, encoding, SENDER, signal=signal).items
