"""Redaction leaves nothing of what is forbidden, and everything else as it was."""

import json
import random
import stat
import time
from binascii import a2b_base64
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import DestinationConfig
from relay.config.steps import RedactConfig
from relay.model.errors import ConfigError
from relay.model.records import Encoding, Signal
from relay.otlp.signals import WIRE
from relay.otlp.transcode import to_json, to_protobuf
from relay.process.steps.hash_key import hash_key
from relay.process.steps.redactor import Redactor
from relay.process.steps.run import FAILED, Stepped, Steps, steps_of
from tests.support.examples import examples
from tests.support.otlp_messages import messages_of
from tests.unit.process.steps.items import BOTH, encoded, entries, logs, span, spans, text

CANARY = "canary-7f3a"
PATTERN = "/canary-[0-9a-f]+/"


def redacting(**words: Any) -> Steps:
    config = DestinationConfig(
        name="d", endpoint="http://h/v1/traces", redact=RedactConfig(**words)
    )
    steps = steps_of(config)
    assert steps is not None
    return steps


def run(made: bytes, encoding: Encoding, signal: Signal = Signal.TRACES, **words: Any) -> Stepped:
    return redacting(**words).run(encoded(made, encoding, signal), encoding, signal)


def only_span(stepped: Stepped, encoding: Encoding) -> Any:
    return entries(stepped.body, encoding)[0]["scopeSpans"][0]["spans"][0]


# Properties


def inject(message: Message, token: str, choose: random.Random) -> None:
    """Put `token` into some of the texts, keys, and bytes of values that a message holds."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.type == field.TYPE_STRING and field.is_repeated:
            for at, each in enumerate(value):
                if choose.random() < 0.3:
                    value[at] = f"{each} {token} {each}"
        elif field.type == field.TYPE_STRING:
            if choose.random() < 0.3 and (field.containing_oneof is None or value):
                setattr(message, field.name, f"{value} {token}.")
        elif field.name == "bytes_value" and value and choose.random() < 0.5:
            message.bytes_value = value + b"\xff" + token.encode() + b"\xff"  # type: ignore[attr-defined]
        elif field.message_type is not None:
            inner = value if field.is_repeated else [value] if message.HasField(field.name) else []
            for each in inner:
                inject(each, token, choose)


def as_row(message: Message, encoding: Encoding, signal: Signal) -> bytes:
    made = message.SerializeToString()
    return made if encoding is Encoding.PROTOBUF else to_json(made, signal)


def has_items(message: Any, signal: Signal) -> bool:
    lists = WIRE[signal].lists[Encoding.PROTOBUF]
    return any(
        len(getattr(scope, lists.records))
        for entry in getattr(message, lists.entries)
        for scope in getattr(entry, lists.scopes)
    )


def bytes_in(tree: Any) -> bytes:
    """What stands in base64 anywhere in JSON."""
    if isinstance(tree, dict):
        own = tree.get("bytesValue")
        rest = b"".join(map(bytes_in, tree.values()))
        return (a2b_base64(own) if isinstance(own, str) else b"") + rest
    return b"".join(map(bytes_in, tree)) if isinstance(tree, list) else b""


def requests_of(signal: Signal) -> st.SearchStrategy[tuple[Signal, Any]]:
    return messages_of(WIRE[signal].request.DESCRIPTOR).map(lambda made: (signal, made))


REQUESTS = st.one_of(*map(requests_of, Signal))


@settings(max_examples=examples(400), deadline=None)
@given(
    drawn=REQUESTS,
    encoding=st.sampled_from(BOTH),
    seed=st.integers(0, 2**32),
)
def test_no_forbidden_text_is_left_anywhere_and_all_else_stays(
    drawn: tuple[Signal, Any], encoding: Encoding, seed: int
) -> None:
    signal, made = drawn[0], type(drawn[1])()
    made.CopyFrom(drawn[1])
    clean = type(made).FromString(made.SerializeToString())
    inject(made, CANARY, random.Random(seed))
    inject(clean, "[redacted]", random.Random(seed))
    steps = redacting(patterns=(PATTERN, "email"))

    stepped = steps.run(as_row(made, encoding, signal), encoding, signal)

    assert FAILED not in stepped.fates
    found = entries(stepped.body, encoding, signal)
    assert CANARY not in json.dumps(found)
    assert CANARY.encode() not in bytes_in(found)
    assert CANARY.encode() not in stepped.body
    if stepped.items == len(stepped.fates) and has_items(clean, signal):
        kept = Steps(()).run(as_row(clean, encoding, signal), encoding, signal)
        assert without_empty(found, signal) == without_empty(
            entries(kept.body, encoding, signal), signal
        )


def without_empty(found: Any, signal: Signal) -> Any:
    """Envelopes that hold an item; those of nothing may be left out."""
    lists = WIRE[signal].lists[Encoding.JSON]

    def holds(record: Any) -> bool:
        if signal is not Signal.METRICS:
            return True
        return any(isinstance(v, dict) and v.get("dataPoints") for v in record.values())

    kept = []
    for entry in found:
        scopes = []
        for scope in entry.get(lists.scopes, []):
            records = [each for each in scope.get(lists.records, []) if holds(each)]
            if records:
                scopes.append({**scope, lists.records: records})
        if scopes:
            kept.append({**entry, lists.scopes: scopes})
    return kept


@settings(max_examples=examples(200), deadline=None)
@given(
    around=st.text(max_size=8),
    replace_with=st.sampled_from(["mask", "hash", "drop"]),
    parts=st.lists(st.sampled_from(["canary-", "7", "f", "a@b.co", " ", "é", "\n", "x"])),
)
def test_whatever_is_put_together_nothing_that_matched_is_left(
    around: str, replace_with: Any, parts: list[str]
) -> None:
    redactor = Redactor((), (PATTERN, "email"), replace_with, b"k")
    before = around + "".join(parts)

    after = redactor.text(before)

    assert not redactor._spans(after.encode())
    if not redactor._spans(before.encode()):
        assert after == before


# Where texts are


def test_each_place_that_holds_text_is_redacted_and_unknown_fields_are_given_up() -> None:
    request = WIRE[Signal.TRACES].request()
    entry: Any = request.resource_spans.add()  # type: ignore[attr-defined]
    made = entry.scope_spans.add().spans.add(name="n", trace_id=b"1" * 16, span_id=b"1" * 8)
    unknown = made.SerializeToString() + bytes([0xFA, 0x7F, len(CANARY)]) + CANARY.encode()
    made.ParseFromString(unknown)
    body = request.SerializeToString()
    assert CANARY.encode() in body

    stepped = redacting(keys=("x",)).run(body, Encoding.PROTOBUF, Signal.TRACES)

    assert CANARY.encode() not in stepped.body
    assert stepped.items == 1


DEEP = {"kvlistValue": {"values": [text("Password", "p"), text("user", "u")]}}


@pytest.mark.parametrize("encoding", BOTH)
@pytest.mark.parametrize(
    ("replace_with", "value"), [("mask", "[redacted]"), ("drop", None), ("hash", "[hash:")]
)
def test_named_keys_are_redacted_at_any_depth(
    encoding: Encoding, replace_with: Any, value: str | None, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    nested = {"arrayValue": {"values": [DEEP]}}
    made = spans(
        span(
            1,
            {"key": "db.password", "value": {"intValue": "7"}},
            {"key": "nested", "value": nested},
            text("other", "p"),
            events=[{"timeUnixNano": "1", "name": "e", "attributes": [text("PASSWORDS", "x")]}],
            links=[
                {"traceId": "1" * 32, "spanId": "1" * 16, "attributes": [text("password", "x")]}
            ],
        ),
        resource={"attributes": [text("password", "r")]},
        scope={"name": "s", "attributes": [text("a.password.b", "r")]},
    )

    stepped = run(
        made, encoding, keys=("*password*",), replace_with=replace_with, key_file=key_file
    )
    (entry,) = entries(stepped.body, encoding)
    (scope,) = entry["scopeSpans"]
    (found,) = scope["spans"]

    def shown(attributes: Any, key: str) -> str | None:
        values = [each["value"]["stringValue"] for each in attributes if each["key"] == key]
        return values[0][: len(value)] if values and value else None

    inner = found["attributes"][1 if value else 0]["value"]["arrayValue"]["values"][0]
    places = [
        (found["attributes"], "db.password"),
        (inner["kvlistValue"]["values"], "Password"),
        (found["events"][0].get("attributes", []), "PASSWORDS"),
        (found["links"][0].get("attributes", []), "password"),
        (entry.get("resource", {}).get("attributes", []), "password"),
        (scope["scope"].get("attributes", []), "a.password.b"),
    ]
    for attributes, key in places:
        assert shown(attributes, key) == value, key
        assert (key in [each["key"] for each in attributes]) == bool(value), key
    assert text("other", "p") in found["attributes"]
    assert inner["kvlistValue"]["values"][-1] == text("user", "u")
    assert stepped.changed == {"redact": 1}


def test_a_record_s_body_is_redacted_by_keys_and_by_patterns() -> None:
    body = {"kvlistValue": {"values": [text("token", "t"), text("msg", f"a {CANARY} b")]}}
    for encoding in BOTH:
        stepped = run(
            logs({"timeUnixNano": "1", "body": body}),
            encoding,
            Signal.LOGS,
            keys=("token",),
            patterns=(PATTERN,),
        )
        (entry,) = entries(stepped.body, encoding, Signal.LOGS)
        found = entry["scopeLogs"][0]["logRecords"][0]["body"]["kvlistValue"]["values"]

        assert found == [text("token", "[redacted]"), text("msg", "a [redacted] b")]


def test_what_lies_deeper_than_a_decoder_goes_is_redacted_too() -> None:
    value: Any = {"kvlistValue": {"values": [text("password", "p"), text("k", CANARY)]}}
    for _ in range(190):
        value = {"arrayValue": {"values": [value]}}
    made = spans(span(1, {"key": "deep", "value": value}))

    stepped = redacting(keys=("password",), patterns=(PATTERN,)).run(
        made, Encoding.JSON, Signal.TRACES
    )

    assert stepped.items == 1
    assert CANARY.encode() not in stepped.body
    assert b'"p"' not in stepped.body
    assert stepped.body.count(b"[redacted]") == 2
    assert stepped.body.count(b"arrayValue") == 190
    assert CANARY.encode() not in to_protobuf(stepped.body, Signal.TRACES)


@pytest.mark.parametrize("encoding", BOTH)
def test_an_item_that_cannot_be_finished_is_taken_out_and_the_others_are_redacted(
    encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Redactor.raw

    def raw(self: Redactor, value: bytes) -> bytes:
        if b"poison" in value:
            raise RecursionError
        return plain(self, value)

    monkeypatch.setattr(Redactor, "raw", raw)
    made = spans(span(1, text("a", CANARY)), span(2, text("a", f"poison {CANARY}")))

    stepped = run(made, encoding, patterns=(PATTERN,))

    assert stepped.fates == ["", FAILED]
    assert stepped.items == 1
    assert b"poison" not in stepped.body
    assert CANARY.encode() not in stepped.body


# Hashes


def test_equal_values_have_equal_hashes_in_both_encodings_and_as_key_or_match(
    tmp_path: Path,
) -> None:
    words: Any = {"replace_with": "hash", "key_file": tmp_path / "key"}
    found = set()
    for encoding in BOTH:
        stepped = run(
            spans(span(1, text("user", "ada@example.org"), text("b", "by ada@example.org!"))),
            encoding,
            keys=("user",),
            patterns=("email",),
            **words,
        )
        values = [
            each["value"]["stringValue"] for each in only_span(stepped, encoding)["attributes"]
        ]
        found |= {values[0], values[1].removeprefix("by ").removesuffix("!")}

    (only,) = found
    assert only.startswith("[hash:")
    other = Redactor((), ("email",), "hash", b"another key").text("ada@example.org")
    assert other != only


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "redaction-key"

    key = hash_key(path)

    assert hash_key(path) == key
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["redaction-key"]


def test_a_file_that_is_no_key_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")

    with pytest.raises(ConfigError, match="holds no key") as caught:
        hash_key(tmp_path / "key")

    assert "delete it" in (caught.value.hint or "")


# Cost


HOSTILE = {
    "all at once": (
        ("email", "credit-card", "ipv4", "ipv6", "jwt", "phone", "bearer"),
        "a@b.co 1 ",
    ),
    "digits": (("credit-card", "phone", "ipv4", "ipv6"), "4111 1111 "),
    "digits without end": (("credit-card", "phone"), "4"),
    "colons": (("ipv6",), "1:2:"),
    "looks ahead": (("/x*y|x/",), "x"),
    "short": (("/[a-z]/",), "ab"),
    "states": (("/[a-q][^u-z]{13}x/", "/(x+x+)+y/"), "qx"),
    "keys cut off": (("private-key",), "-----BEGIN PRIVATE KEY-----"),
    "tokens": (("bearer", "basic-auth", "aws-key"), "basic aaaa bearer bbbbbbbb aws secret "),
}


@pytest.mark.parametrize("replace_with", ["mask", "drop"])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [1024, 200_000])
def test_no_text_costs_more_than_a_millisecond_a_kilobyte(
    name: str, size: int, replace_with: Any
) -> None:
    patterns, piece = HOSTILE[name]
    body = (piece * (size // len(piece) + 1))[:size]
    redactor = Redactor((), patterns, replace_with, b"")

    best = min(timed(redactor, body) for _ in range(4))

    assert best < size / 1024 * 1e-3


def timed(redactor: Redactor, body: str) -> float:
    began = time.thread_time()
    redactor.text(body)
    return time.thread_time() - began


@pytest.mark.parametrize("encoding", BOTH)
def test_many_different_keys_are_looked_at_once_each_and_not_remembered_for_ever(
    encoding: Encoding,
) -> None:
    steps = redacting(keys=("*password*", "a*b*c*d*e*f"), patterns=("email",))
    milliseconds = []  # a KiB; with keys of its own each time
    for turn in "abcd":
        named = (span(n, *(text(f"{turn}{n}.{k}", "v") for k in range(100))) for n in range(1, 201))
        body = encoded(spans(*named), encoding)
        began = time.thread_time()
        stepped = steps.run(body, encoding, Signal.TRACES)
        milliseconds.append((time.thread_time() - began) * 1e3 / (len(body) / 1024))
        assert stepped.items == 200

    assert min(milliseconds) < 1


def test_message_types_have_all_the_texts_that_the_schema_has() -> None:
    from relay.process.steps.plans import ITEMS, plan_of

    plan = plan_of(ITEMS["Span"], Encoding.JSON)

    assert plan.texts == ("traceState", "name")
    assert [name for name, _inner in plan.lists] == ["events", "links"]
    assert [name for name, _inner in plan.singles] == ["status"]
