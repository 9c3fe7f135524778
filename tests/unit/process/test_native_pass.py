"""The native pass gives what the Python path gives, or leaves it to that."""

import os
import sys
from types import SimpleNamespace
from typing import Any, Final, get_args, get_type_hints

import pytest
from google.protobuf.descriptor import FieldDescriptor
from msgspec.structs import replace
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from relay.model.reasons import ROW_BYTES
from relay.model.records import Encoding, Signal
from relay.otlp import native, transcode
from relay.otlp.protobuf_writer import delimited
from relay.otlp.signals import WIRE
from relay.process import prepare as prepare_module
from tests.support.native_difference import NOW_NS, SETTINGS, BothPaths
from tests.support.protobuf_fuzz import ProtobufBodies

MODULE: Final = pytest.importorskip("otlp_relay_native", reason="not built: make native")
# More of them: NATIVE_FUZZ=100000.
BODIES: Final = int(os.environ.get("NATIVE_FUZZ", "600"))
BLOCK: Final = 100

TYPES: Final = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_ENUM: "int32",
    FieldDescriptor.TYPE_SINT32: "sint32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_SFIXED64: "sfixed64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FIXED64: "fixed64",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_MESSAGE: "message",
}


def holds(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "many"
    oneof = field.containing_oneof
    if oneof is None:
        return "one"
    # A field that is `optional` is the only member of a oneof of its own.
    return "optional" if oneof.name == f"_{field.name}" else "oneof"


def described(descriptor: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Every message below this one, as `schema` gives it, but ordered by number."""
    if descriptor.name in known:
        return known
    known[descriptor.name] = [
        (
            field.camelcase_name,
            field.number,
            TYPES[field.type],
            holds(field),
            field.message_type.name if field.message_type else "",
        )
        for field in sorted(descriptor.fields, key=lambda each: each.number)
    ]
    for field in descriptor.fields:
        if field.message_type:
            described(field.message_type, known)
    return known


def test_its_table_of_messages_is_the_official_schema() -> None:
    official: dict[str, Any] = {}
    for wire in WIRE.values():
        described(wire.request.DESCRIPTOR, official)

    ours = {
        name: sorted(fields, key=lambda field: field[1]) for name, fields in MODULE.schema().items()
    }

    assert ours == official


def test_its_messages_have_their_fields_in_the_order_in_which_json_is_written() -> None:
    def structs(kind: Any) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        pending = [kind]
        while pending:
            each = pending.pop()
            if each.__name__ not in found:
                found[each.__name__] = each.__struct_fields__
                pending += [t for t in _structs_in(each) if t.__name__ not in found]
        return found

    ours = {name: tuple(field[0] for field in fields) for name, fields in MODULE.schema().items()}
    for wire in WIRE.values():
        for name, fields in structs(wire.json_request_struct).items():
            assert ours[name] == fields, name


def _structs_in(struct: Any) -> list[Any]:
    found: list[Any] = []
    pending = list(get_type_hints(struct).values())
    while pending:
        kind = pending.pop()
        pending += get_args(kind)
        if hasattr(kind, "__struct_fields__"):
            found.append(kind)
    return found


@pytest.mark.parametrize("seed", range(-(-BODIES // BLOCK)))
def test_generated_and_mutated_protobuf_comes_out_as_in_python(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every other time nearly all are cut.
    monkeypatch.setattr(prepare_module, "ROW_BYTES", 3000 if seed % 2 else ROW_BYTES)
    bodies = ProtobufBodies(seed)
    mode = ("auto", "reject", "derive")[seed % 3]
    both = BothPaths(MODULE, replace(SETTINGS, malformed_ids=mode))

    for number in range(BLOCK):
        signal = list(Signal)[number % 3]
        both.compare(bodies.body(signal), Encoding.PROTOBUF, signal, is_local=bool(number % 5))

    # A pass that takes nothing agrees with everything.
    assert all(both.taken[signal] > 3 for signal in Signal), both.taken


@pytest.mark.parametrize("seed", range(-(-BODIES // BLOCK)))
def test_generated_and_mutated_protobuf_becomes_the_json_that_python_makes_of_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies, taken = ProtobufBodies(seed), 0
    monkeypatch.setattr(native, "MODULE", None)
    for number in range(BLOCK):
        signal = list(Signal)[number % 3]
        fragment = bodies.body(signal)
        made = MODULE.to_json(fragment, signal)
        if made is not None:
            assert made == transcode.to_json(fragment, signal)
            taken += 1

    assert taken > BLOCK // 2


SPAN: Final[dict[str, Any]] = {
    "trace_id": b"\1" * 16,
    "span_id": b"\2" * 8,
    "name": "GET /",
    "start_time_unix_nano": NOW_NS - 10**9,
    "end_time_unix_nano": NOW_NS,
}
RECORD: Final[dict[str, Any]] = {"time_unix_nano": NOW_NS, "severity_number": 9}
POINT: Final[dict[str, Any]] = {"time_unix_nano": NOW_NS, "as_int": 5}
NEWER_FIELD: Final = b"\xf2\x06\x03new"  # number 110
ZEROS_OF_JAVASCRIPT: Final = b"\x50\0\x60\0\x70\0"  # counts of what was dropped, written out


def span(**changes: Any) -> bytes:
    return Span(**SPAN | changes).SerializeToString()


def log_record(**changes: Any) -> bytes:
    return LogRecord(**RECORD | changes).SerializeToString()


def gauge(*points: dict[str, Any], **changes: Any) -> bytes:
    made = Metric(**{"name": "m"} | changes)
    for point in points:
        made.gauge.data_points.add(**point)
    return made.SerializeToString()


def attributes(count: int) -> list[KeyValue]:
    return [KeyValue(key=f"k{n}", value=AnyValue(int_value=n)) for n in range(count)]


# By name: the signal, and records as one scope holds them.
COMMON: Final[dict[str, tuple[Signal, list[bytes]]]] = {
    "a span": (Signal.TRACES, [span()]),
    "spans rejected one by one": (
        Signal.TRACES,
        [span(), span(trace_id=b"\1" * 3), span(span_id=bytes(8)), span(trace_id=b""), span()],
    ),
    "a parent that is zero": (Signal.TRACES, [span(parent_span_id=bytes(8))]),
    "warnings": (
        Signal.TRACES,
        [span(name="", start_time_unix_nano=0), span(end_time_unix_nano=5, start_time_unix_nano=9)],
    ),
    "many attributes": (Signal.TRACES, [span(attributes=attributes(200))]),
    "a key twice": (Signal.TRACES, [span(attributes=attributes(3) + attributes(1))]),
    "a newer field": (Signal.TRACES, [span() + NEWER_FIELD, span()]),
    "a newer field in between": (Signal.TRACES, [NEWER_FIELD + span()]),
    "zeros that are written out": (Signal.TRACES, [span() + ZEROS_OF_JAVASCRIPT]),
    "a log record": (Signal.LOGS, [log_record()]),
    "log records without a trace": (
        Signal.LOGS,
        [log_record(trace_id=bytes(16), span_id=bytes(8)), log_record(trace_id=b"\1" * 16)],
    ),
    "log records without a time": (
        Signal.LOGS,
        [
            log_record(time_unix_nano=0),
            log_record(time_unix_nano=0, observed_time_unix_nano=NOW_NS),
        ],
    ),
    "a gauge": (Signal.METRICS, [gauge(POINT)]),
    "points rejected one by one": (
        Signal.METRICS,
        [gauge(POINT, {"as_int": 5}, {"time_unix_nano": 7}), gauge(POINT, name=""), gauge(POINT)],
    ),
}


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("is_local", [True, False])
def test_what_is_common_is_taken(name: str, is_local: bool) -> None:
    signal, records = COMMON[name]
    resource = Resource(
        attributes=[KeyValue(key="service.name", value=AnyValue(string_value="shop"))],
        entity_refs=[EntityRef(type="service", id_keys=["service.name"])],
    )
    scope = delimited(b"\x0a", InstrumentationScope(name="s").SerializeToString())
    scope += b"".join(delimited(b"\x12", record) for record in records)
    entry = delimited(b"\x0a", resource.SerializeToString()) + delimited(b"\x12", scope)
    body = delimited(b"\x0a", entry + delimited(b"\x1a", b"https://schema"))

    both = BothPaths(MODULE, replace(SETTINGS, malformed_ids="reject"))

    assert both.compare(body, Encoding.PROTOBUF, signal, is_local=is_local)


def test_it_can_be_switched_off() -> None:
    assert native.find({"RELAY_PURE": "1"}) == (None, "off: RELAY_PURE is set")
    assert native.find({"RELAY_PURE": "0"}) == (MODULE, "active")
    assert native.find({}) == (MODULE, "active")


def test_one_of_another_format_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(FORMAT=native.FORMAT + 1, __version__="9.9")
    monkeypatch.setitem(sys.modules, "otlp_relay_native", other)

    module, state = native.find({})

    assert module is None
    assert "otlp-relay-native 9.9 is of another version of the relay" in state


def test_without_it_the_relay_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "otlp_relay_native", None)

    assert native.find({}) == (None, "not installed")
