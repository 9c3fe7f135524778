"""A fragment that is opened, changed and closed, held against the official classes."""

from collections.abc import Iterable, Iterator
from itertools import compress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model.records import Encoding, Signal
from relay.otlp.messages import AnyValue, KeyValue
from relay.otlp.opened import Opened, keep_marked
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError, to_json, to_protobuf
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
SIGNALS = pytest.mark.parametrize("signal", Signal)
ENCODINGS = pytest.mark.parametrize("encoding", Encoding)


def lists_of(request: Any, signal: Signal) -> Iterator[Any]:
    """Each list of items of the official message, in order."""
    entries, scopes, records = WIRE[signal].lists[PROTOBUF]
    for entry in getattr(request, entries):
        for scope in getattr(entry, scopes):
            if signal is not Signal.METRICS:
                yield getattr(scope, records)
                continue
            for metric in scope.metrics:
                if kind := metric.WhichOneof("data"):
                    yield getattr(metric, kind).data_points


def without(request: Any, signal: Signal, marks: Iterable[bool]) -> Any:
    """The same with the marked items alone, and without envelopes of none."""
    left = type(request)()
    left.CopyFrom(request)
    is_kept = iter(marks)
    for items in lists_of(left, signal):
        kept = [item for item in list(items) if next(is_kept)]
        del items[:]
        items.extend(kept)
    entries, scopes, records = WIRE[signal].lists[PROTOBUF]
    for entry in getattr(left, entries):
        for scope in getattr(entry, scopes):
            if signal is Signal.METRICS:
                full = [m for m in scope.metrics if m.WhichOneof("data")]
                full = [m for m in full if getattr(m, m.WhichOneof("data")).data_points]
                kept = [type(m).FromString(m.SerializeToString()) for m in full]
                del scope.metrics[:]
                scope.metrics.extend(kept)
        prune(getattr(entry, scopes), records)
    prune(getattr(left, entries), scopes)
    return left


def prune(holders: Any, name: str) -> None:
    kept = [type(it).FromString(it.SerializeToString()) for it in holders if getattr(it, name)]
    del holders[:]
    holders.extend(kept)


@SIGNALS
@ENCODINGS
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_items_that_are_taken_out_are_gone_with_the_envelopes_that_hold_no_other(
    signal: Signal, encoding: Encoding, data: st.DataObject
) -> None:
    request = data.draw(messages_of(WIRE[signal].request.DESCRIPTOR))
    count = sum(map(len, lists_of(request, signal)))
    marks = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    packed = request.SerializeToString()
    opened = Opened(packed if encoding is PROTOBUF else to_json(packed, signal), encoding, signal)
    is_kept = iter(marks)
    for group in opened.groups:
        keep_marked(group.items, [next(is_kept) for _ in group.items])
    closed = opened.close()

    if encoding is JSON:
        closed = to_protobuf(closed, signal)
    whole = type(request).FromString(closed)
    expected = without(request, signal, marks)
    assert whole.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


@SIGNALS
@ENCODINGS
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_whether_an_envelope_is_empty_is_known_when_it_is_opened(
    signal: Signal, encoding: Encoding, data: st.DataObject
) -> None:
    request = data.draw(messages_of(WIRE[signal].request.DESCRIPTOR))
    packed = request.SerializeToString(deterministic=True)
    fragment = packed if encoding is PROTOBUF else to_json(packed, signal)
    opened = Opened(fragment, encoding, signal)
    closed = opened.close()

    # Where nothing is empty, and nobody has taken anything out, it is as it was.
    full = without(request, signal, [True] * sum(map(len, lists_of(request, signal))))
    is_full = full.SerializeToString(deterministic=True) == packed
    assert opened.has_empty == (not is_full)
    if is_full and encoding is JSON:
        assert closed == fragment


@given(st.lists(st.tuples(st.integers(), st.booleans())))
def test_what_is_marked_stays_in_its_order(pairs: list[tuple[int, bool]]) -> None:
    items = [item for item, _ in pairs]
    marks = [mark for _, mark in pairs]
    left = list(items)
    keep_marked(left, marks)
    assert left == list(compress(items, marks))


def test_a_resource_is_written_anew_where_it_was_changed_and_nowhere_else() -> None:
    spans = b'"scopeSpans":[{"spans":[{"name":"x"}]}]'
    kept = b'{"resource":{"attributes":[{"key":"a","value":{"stringValue":"1"}}]},%b}' % spans
    bare = b"{%b}" % spans
    opened = Opened(b",".join([kept, kept, bare, bare]), JSON, Signal.TRACES)
    for group in opened.groups[1:3]:
        group.resource.attributes.append(KeyValue(key="b", value=AnyValue(stringValue="2")))
        opened.resource_changed(group)
    opened.resource_changed(opened.groups[3])  # though it holds nothing still

    new = b'{"key":"b","value":{"stringValue":"2"}}'
    both = kept.replace(b'"1"}}]', b'"1"}},%b]' % new)
    made = b'{"resource":{"attributes":[%b]},%b}' % (new, spans)
    assert opened.close() == b",".join([kept, both, made, bare])


def deep(levels: int) -> bytes:
    value = b'{"arrayValue":{"values":[' * levels + b'{"intValue":"1"}' + b"]}}" * levels
    return b'{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":%b}]}]}]}' % value


@pytest.mark.parametrize("levels", [1, 29, 30, 31, 200, 2000])
def test_json_of_any_depth_is_closed_as_it_was_opened(levels: int) -> None:
    fragment = b",".join([deep(levels), deep(2), deep(levels + 7)])
    assert Opened(fragment, JSON, Signal.TRACES).close() == fragment


@pytest.mark.parametrize(("fragment", "encoding"), [(b"[", JSON), (b"\x0a\x7f", PROTOBUF)])
def test_what_is_no_fragment_cannot_be_opened(fragment: bytes, encoding: Encoding) -> None:
    with pytest.raises(TranscodeError):
        Opened(fragment, encoding, Signal.TRACES)


def test_unknown_fields_stay_unless_they_are_given_up() -> None:
    unknown = b"\xfa\x3f\x02hi"  # field 1023
    span = b"\x2a\x01x" + unknown
    scope = b"\x12%c%b" % (len(span), span)
    entry = b"\x12%c%b" % (len(scope), scope)
    fragment = b"\x0a%c%b" % (len(entry), entry)
    assert Opened(fragment, PROTOBUF, Signal.TRACES).close() == fragment
    opened = Opened(fragment, PROTOBUF, Signal.TRACES)
    opened.discard_unknown()
    assert opened.close() == b"\x0a\x07\x12\x05\x12\x03\x2a\x01x"


@ENCODINGS
def test_group_knows_the_scope_of_its_items(encoding: Encoding) -> None:
    fragment = b'{"scopeSpans":[{"scope":{"name":"lib"},"spans":[{"name":"x"}]},{"spans":[{}]}]}'
    if encoding is PROTOBUF:
        fragment = to_protobuf(fragment, Signal.TRACES)
    named, bare = Opened(fragment, encoding, Signal.TRACES).groups

    assert named.scope.name == "lib"
    assert not (bare.scope and bare.scope.name)
