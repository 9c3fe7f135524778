"""The mock collector and the relay answer the same requests; they share no code to err alike.

Where they differ, one of `tests.differential.kinds` is why; whatever else they differ in is a fault
of one of them. It is always the mock that refuses: what it takes, the relay takes whole.
"""

import re
from pathlib import Path

import pytest

from mockcollector import json_plain
from mockcollector.decoding import Decoded, decode
from mockcollector.profiles import build
from mockcollector.rules import Encoding, Rules
from mockcollector.signals import Signal as MockSignal
from relay.model.records import Signal
from tests.bench.payloads import Bodies
from tests.differential import kinds
from tests.differential.judging import compare
from tests.support.json_fuzz import JsonBodies

DOCUMENT = Path(__file__).parents[2] / "docs" / "mockcollector.md"


def test_mock_and_relay_differ_only_as_documented(tmp_path: Path) -> None:
    found = compare("relay", tmp_path, range(20_000, 20_300))
    assert found.unknown == []
    assert found.same > 200


@pytest.mark.proofs
def test_mock_and_relay_differ_only_as_documented_in_4000_requests(tmp_path: Path) -> None:
    found = compare("relay", tmp_path, range(4_000))
    assert found.unknown == []
    assert found.same > 3_000


def test_every_kind_of_disagreement_with_the_relay_is_in_the_document() -> None:
    words = " ".join(DOCUMENT.read_text().partition("The relay judges otherwise")[2].split())
    assert [kind.words for kind in kinds.RELAY if kind.words not in words] == []


def test_every_kind_of_disagreement_with_the_collector_is_listed_by_its_profile() -> None:
    listed = "; ".join(build("otel-collector").unconfirmed)
    assert [kind.words for kind in kinds.COLLECTOR if kind.words not in listed] == []


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
