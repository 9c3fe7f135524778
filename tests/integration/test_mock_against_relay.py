"""The mock collector and the relay judge the same bodies, and share no code that could err alike.

Where they differ, one of these is why; whatever else they differ in is a fault of one of them. It
is always the mock that refuses: what it takes, the relay takes whole.
"""

import re
from collections import Counter
from typing import Final

import pytest

from mockcollector import json_plain
from mockcollector.decoding import Decoded, decode
from mockcollector.rules import Encoding, Refused, Rules
from mockcollector.signals import Signal as MockSignal
from relay.model.records import Encoding as RelayEncoding
from relay.model.records import Signal
from relay.process.prepare import Prepare, PrepareSettings
from tests.bench.payloads import Bodies
from tests.support.json_fuzz import JsonBodies
from tests.support.protobuf_fuzz import ProtobufBodies

# The mock refuses a whole request for each of these, as the specification or the official classes
# do. The relay mends them, or keeps the rest of the item, and says so (docs/mockcollector.md).
DOCUMENTED: Final = (
    r"an object has the same key twice",
    r"must be empty or (8|16) bytes",  # ids of links, log records and exemplars
    r"must be empty or 8 bytes, not all zero",  # a parent of zeros is a root to the relay
    r"must be an integer, not an enum name",
    r"the body is not UTF-8 at byte \d+",
    r"the body is not an Export\w+Request in protobuf",  # it mends wrong text and wire types
    r"holds half of a surrogate pair",
    r"is a second member of the oneof",
    r"must have asDouble or asInt",  # an exemplar without a value
    r"must not be empty",  # a metric's name
    r"must be (a string|a list|an object|an integer|a number|true or false|base64)",
    r"must be (16|32) hexadecimal digits",
    r"must be (between|a whole number)",
    r"must be a number, \"NaN\"",
    r"must fit a double",
    r"NaN and Infinity must be strings",
)
_prepare = Prepare(PrepareSettings(malformed_ids="reject"))


def relays_verdict(body: bytes, encoding: RelayEncoding, signal: Signal) -> str:
    try:
        checked = _prepare.check(body, encoding, signal=signal)
    except Exception:  # noqa: BLE001 - each kind of refusal is one
        return "refused"
    return "in part" if checked.rejected else "taken"


def mocks_verdict(body: bytes, encoding: Encoding, signal: MockSignal) -> str:
    try:
        decode(body, encoding, signal, Rules())
    except Refused as refusal:
        return refusal.message
    return "taken"


def disagreements(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """How often each documented one came, and those that are not documented."""
    known: Counter[str] = Counter()
    unknown = []
    for seed in range(first, first + count):
        signal = tuple(Signal)[seed % 3]
        is_json = seed % 5 < 3
        body = (JsonBodies if is_json else ProtobufBodies)(seed).body(signal)
        relays = relays_verdict(
            body, RelayEncoding.JSON if is_json else RelayEncoding.PROTOBUF, signal
        )
        mocks = mocks_verdict(
            body,
            Encoding.JSON if is_json else Encoding.PROTOBUF,
            MockSignal(signal.name.lower()),
        )
        if (relays == "taken") == (mocks == "taken") or (relays == "in part" and mocks != "taken"):
            continue
        why = next((why for why in DOCUMENTED if mocks != "taken" and re.search(why, mocks)), None)
        if why is None:
            unknown.append(f"seed {seed}: the relay: {relays}; the mock: {mocks[:200]}")
        else:
            known[why] += 1
    return known, unknown


def test_mock_and_relay_differ_only_as_documented() -> None:
    known, unknown = disagreements(0, 600)
    assert unknown == []
    assert known.total() < 200


@pytest.mark.proofs
def test_mock_and_relay_differ_only_as_documented_in_4000_requests() -> None:
    known, unknown = disagreements(10_000, 4_000)
    assert unknown == []
    assert known.total() < 1_200


def read_strictly(body: bytes, signal: MockSignal, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    with monkeypatch.context() as patch:
        patch.setattr(json_plain, "read_plain", lambda *_: None)
        return decode(body, Encoding.JSON, signal, Rules())


@pytest.mark.parametrize("signal", [MockSignal.TRACES, MockSignal.LOGS])
def test_what_is_read_as_plain_is_right_by_every_rule(
    signal: MockSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies as senders write them, odd ones, and each of them changed in a few places."""
    made = JsonBodies(7)
    kind = "service" if signal is MockSignal.TRACES else "log"
    usual = Bodies(kind, 2)
    taken = 0
    for seed in range(300):
        body = usual.body() if seed % 2 else compact(JsonBodies(seed).body(Signal[signal.name]))
        for _ in range(6):
            plain = json_plain.read_plain(body, signal)
            if plain is not None:
                taken += 1
                strict = read_strictly(body, signal, monkeypatch)  # raises what is wrong
                assert (plain.count, plain.span_ids) == (strict.count, strict.span_ids)
                assert (strict.unknown_keys, strict.flaws) == ((), ())
                assert json_plain.plain_message(body, signal) == strict.message
            body = made.change_text(body)
    assert taken > 150


def compact(body: bytes) -> bytes:
    """Without blanks between, as JSON.stringify writes; numbers stay as they are."""
    return re.sub(rb'("(?:[^"\\]|\\.)*")|\s+', lambda found: found[1] or b"", body)
