"""What a dead letter says of what was given up, and what it holds."""

import json
from collections.abc import Callable

import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import THREAD_FROM_BYTES, make_batch
from relay.deliver.left_out import Why
from relay.deliver.make_dead_letter import (
    of_age,
    of_left_out,
    of_refusal,
    trace_ids_of_rows,
    words_of,
)
from relay.model.reasons import Reason
from relay.model.records import BodyFlag, Encoding, Signal, StoredRow
from relay.otlp.transcode import to_protobuf
from relay.upstream.outcomes import Blocked, Faulty
from tests.support import builders
from tests.unit.deliver.conftest import taken_of

pytestmark = pytest.mark.anyio
SECOND_NS = 10**9
RECEIVED_NS = 10**18
Settings = Callable[..., DestinationConfig]


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def row(number: int, encoding: Encoding = Encoding.JSON, padding: int = 0) -> StoredRow:
    span = builders.span(traceId=trace_id(number).hex(), name="x" * padding or "x")
    body = builders.to_body(builders.request(span)["resourceSpans"][0])
    if encoding is Encoding.PROTOBUF:
        body = to_protobuf(body, Signal.TRACES)
    return StoredRow(number, RECEIVED_NS, encoding, BodyFlag.NONE, 1, body)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Blocked("no", status=413), Reason.TOO_LARGE),
        (Blocked("no", status=400), Reason.UPSTREAM_REFUSED),
        (Faulty("no"), Reason.RELAY_ERROR),
    ],
)
async def test_reason_is_that_of_the_refusal(refusal: Blocked, reason: Reason) -> None:
    letter = await of_refusal("a", taken_of(row(7)), None, refusal)

    assert (letter.reason, letter.status, letter.row) == (reason, refusal.status, 7)
    assert (letter.items, letter.words, letter.trace_ids) == (1, "no", trace_id(7))


async def test_what_is_left_out_of_a_batch_is_a_letter_for_each_reason(settings: Settings) -> None:
    whys = [
        Why(Reason.TEMPORALITY, "not this"),
        None,
        Why(Reason.UPSTREAM_REFUSED, "nor this", 400),
    ]
    taken = taken_of(row(7), row(8), row(9))
    judges = (lambda *_: whys,)
    batch = make_batch(taken.rows, Encoding.JSON, settings(), gzips=False, judges=judges)
    letters = await of_left_out("a", taken, batch)

    assert batch.items == 1
    assert [(each.reason, each.words, each.status) for each in letters] == [
        (Reason.TEMPORALITY, "not this", 0),
        (Reason.UPSTREAM_REFUSED, "nor this", 400),
    ]
    assert [each.trace_ids for each in letters] == [trace_id(7), trace_id(9)]
    assert [each.row for each in letters] == [7, 7]  # where the batch began


@pytest.mark.parametrize(
    ("encodings", "held"),
    [
        ((Encoding.JSON, Encoding.PROTOBUF), {Encoding.JSON: 1, Encoding.PROTOBUF: 2}),
        ((Encoding.JSON, Encoding.JSON), {Encoding.JSON: 1}),
        ((Encoding.PROTOBUF, Encoding.PROTOBUF), {Encoding.PROTOBUF: 1}),
    ],
)
async def test_what_is_too_old_is_a_letter_of_each_encoding_that_says_how_old(
    settings: Settings, encodings: tuple[Encoding, ...], held: dict[Encoding, int]
) -> None:
    taken = taken_of(*(row(number, each) for number, each in enumerate(encodings, start=1)))
    letters = await of_age(settings(), taken, 3600.0, RECEIVED_NS + 86_400 * SECOND_NS)

    assert {each.encoding: each.row for each in letters} == held
    assert sum(each.items for each in letters) == 2
    assert {each.words for each in letters} == {
        "received 1d ago, and axiom is sent nothing older than 1h (max_age)"
    }


async def test_what_a_clock_that_jumped_makes_younger_than_now_is_no_time_old(
    settings: Settings,
) -> None:
    for passed_ns in (-86_400 * SECOND_NS, 0, SECOND_NS - 1):
        (letter,) = await of_age(settings(), taken_of(row(1)), 60.0, RECEIVED_NS + passed_ns)
        assert letter.words.startswith("received 0s ago")


@pytest.mark.parametrize("padding", [0, THREAD_FROM_BYTES])
async def test_traces_of_rows_are_told_however_long_they_are(padding: int) -> None:
    assert await trace_ids_of_rows([row(1, padding=padding)]) == trace_id(1)
    assert await trace_ids_of_rows([row(1), row(2, padding=padding)]) == trace_id(1) + trace_id(2)
    assert json.loads(row(1).body)


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("/opt/x/site-packages/some/thing.py", "site-packages/some/thing.py:1"),
        ("/opt/relay/relay/otlp/ids.py", "relay/otlp/ids.py:1"),
        ("/somewhere/else/odd.py", "odd.py:1"),
        ("", ":1"),
    ],
)
def test_words_of_an_error_name_the_lines_and_nothing_of_the_data(
    filename: str, shown: str
) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", filename, "exec"))  # noqa: S102 - for its name alone

    assert words_of(caught.value).startswith(f"ZeroDivisionError at {shown}")
    assert words_of(ValueError("secret")) == "ValueError at a place unknown"
