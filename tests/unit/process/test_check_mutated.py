"""OTLP/JSON of any shape: every item is kept or rejected, whichever way it is read, and told."""

import copy
import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model.errors import Refusal
from relay.model.records import Encoding, Sender
from relay.otlp import json as otlp_json
from relay.otlp import transcode
from relay.otlp.messages_metrics import DATA
from relay.otlp.signals import METRICS, WIRE, SignalWire
from relay.process.check.rejections import AllItemsRejected
from relay.process.prepare import Prepare, Prepared, PrepareSettings
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of

NOW: Final = 1767225605 * 10**9
SECRET: Final = "5ecr3t"
NAMES: Final = [
    "attributes", "events", "links", "status", "name", "dataPoints", "gauge", "sum", "exemplars",
    "scope", "value", "key", "stringValue", "kvlistValue", "values", "unit", "body", "metadata",
    "timeUnixNano", "traceId", "bucketCounts", "positive", "asInt", "count", "newer",
]  # fmt: skip
JUNK: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, 0, -1, 1.5, "", SECRET, [], {}, True, [1], {"a": 1}, 10**30, "12", "NaN", [None], [{}],
     [{"stringValue": SECRET}], {"stringValue": SECRET}]
)  # fmt: skip


def places_in(tree: Any) -> list[tuple[Any, Any]]:
    """Every object or list in a tree, with each of its keys or indices."""
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for step, held in steps:
        found.append((tree, step))
        if isinstance(held, dict | list):
            found += places_in(held)
    return found


def mutate(tree: dict[str, Any], data: st.DataObject) -> None:
    """Put something strange somewhere: in the place of what was there, or beside it."""
    places = places_in(tree)
    if not places:
        return
    around, step = data.draw(st.sampled_from(places))
    junk = copy.deepcopy(data.draw(JUNK))
    change = data.draw(st.sampled_from(["replace", "beside", "take out"]))
    if change == "replace":
        around[step] = junk
    elif change == "take out":
        del around[step]
    elif isinstance(around, list):
        around.insert(step, junk)
    else:
        around[data.draw(st.sampled_from(NAMES))] = junk


def items_in(tree: Any, wire: SignalWire) -> int | None:
    """How many items are in a body; None where that cannot be said."""

    def held(message: Any, name: str, kind: type = list) -> Any:
        if message is None:
            return kind()
        if not isinstance(message, dict):
            raise TypeError
        found = kind() if message.get(name) is None else message[name]
        if not isinstance(found, kind):
            raise TypeError
        return found

    entries, scopes, records = wire.lists[Encoding.JSON]
    count = 0
    try:
        for entry in held(tree, entries):
            for scope in held(entry, scopes):
                for record in held(scope, records):
                    if wire is not METRICS or not isinstance(record, dict):
                        count += 1
                        continue
                    kinds = [name for name in record if name in DATA and record[name] is not None]
                    if kinds:
                        count += len(held(held(record, kinds[-1], dict), "dataPoints"))
    except TypeError:
        return None
    return count


def prepared(body: bytes, wire: SignalWire) -> Prepared:
    """What becomes of a body; of one without a valid item what is rejected, of others the words."""
    prepare = Prepare(PrepareSettings(), clock_ns=lambda: NOW)
    try:
        return prepare(body, Encoding.JSON, Sender("192.0.2.1"), signal=wire.signal)
    except AllItemsRejected as refusal:
        return Prepared((), 0, refusal.rejected, refusal.counts, {}, str(refusal))
    except Refusal as refusal:
        return Prepared((), 0, message=str(refusal), warnings={"refused": 1})


@pytest.mark.parametrize("wire", WIRE.values(), ids=[signal.word for signal in WIRE])
@settings(max_examples=examples(200), deadline=None)
@given(data=st.data())
def test_json_of_any_shape_is_kept_or_rejected_item_by_item(
    wire: SignalWire, data: st.DataObject
) -> None:
    body = data.draw(messages_of(wire.request.DESCRIPTOR)).SerializeToString()
    tree = json.loads(wire.json_request % transcode.to_json(body, wire.signal))
    for _ in range(data.draw(st.integers(0, 3))):
        mutate(tree, data)
    sent = json.dumps(tree).encode()
    found = prepared(sent, wire)
    assert SECRET not in found.message
    if "refused" in found.warnings:
        return

    rejected = sum(found.rejected_by_reason.values())
    assert sum(piece.items for piece in found.pieces) == found.items
    assert sum(each.items for each in found.rejected) == rejected
    assert items_in(tree, wire) in (None, found.items + rejected)

    # What is kept is normal, and what is rejected would be again, as often.
    for piece in found.pieces:
        again = prepared(wire.json_request % piece.body, wire)
        assert (again.items, again.rejected) == (piece.items, ())
    for letter in found.rejected:
        again = prepared(wire.json_request % letter.body, wire)
        assert (again.items, sum(again.rejected_by_reason.values())) == (0, letter.items)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(otlp_json, "decode", otlp_json.decode_exact)
        exactly = prepared(sent, wire)
    assert [piece.body.replace(b'"resource":{},', b"") for piece in exactly.pieces] == [
        piece.body.replace(b'"resource":{},', b"") for piece in found.pieces
    ]
    assert exactly.rejected_by_reason == found.rejected_by_reason
