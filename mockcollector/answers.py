"""Answers in, bytes out: the bodies of OTLP/HTTP responses in either encoding.

OTLP specification, section "OTLP/HTTP Response": success is the signal's own response whose
partial_success is unset, everything from 400 on is a google.rpc.Status.
"""

import json
from collections.abc import Sequence
from typing import Any

from mockcollector.rules import Encoding, ErrorForm, Violation
from mockcollector.signals import TRAITS, Signal

# google.rpc.Code by HTTP status, as the OpenTelemetry Collector pairs them.
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 12, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13}
_UNAVAILABLE = {502, 503, 504}
_PADDING_FIELD = 15
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def grpc_code(status: int) -> int:
    """The google.rpc code that goes with an HTTP status; 2 (unknown) where there is none."""
    return 14 if status in _UNAVAILABLE else _GRPC_CODES.get(status, 2)


def success_body(
    encoding: Encoding,
    signal: Signal = Signal.TRACES,
    *,
    rejected: int = 0,
    message: str = "",
    empty_partial: bool = False,
) -> bytes:
    """Full success; with rejected items or a message, partial success or a warning.

    With `empty_partial` full success holds an empty partial_success, which means the same.
    """
    if empty_partial and not rejected and not message:
        return b"\x0a\x00" if encoding is Encoding.PROTOBUF else b'{"partialSuccess":{}}'
    if encoding is Encoding.PROTOBUF:
        response = TRAITS[signal].response()
        if rejected or message:
            setattr(response.partial_success, TRAITS[signal].rejected, rejected)
            response.partial_success.error_message = message
        return response.SerializeToString()
    partial: dict[str, str] = {}
    if rejected:
        first, *others = TRAITS[signal].rejected.split("_")
        name = first + "".join(map(str.title, others))
        partial[name] = str(rejected)  # int64: a string in ProtoJSON
    if message:
        partial["errorMessage"] = message
    return _json({"partialSuccess": partial} if partial else {})


def error_body(
    form: ErrorForm,
    encoding: Encoding,
    status: int,
    message: str,
    violations: Sequence[Violation] = (),
) -> tuple[bytes, str]:
    """A refusal and its Content-Type, as a vendor writes it."""
    match form:
        case ErrorForm.STATUS:
            return status_body(encoding, status, message, violations), encoding.media_type
        case ErrorForm.TEXT:
            return f"{message}\n".encode(), "text/plain; charset=utf-8"
        case ErrorForm.OCTETS:
            return _field(2, message.encode()), "application/octet-stream"


def padded(body: bytes, size_bytes: int, content_type: str) -> bytes:
    """The body made as large as that with what its reader ignores.

    In protobuf that is a field that OTLP does not know, elsewhere blanks. Where no field has just
    the size that is missing, it is a few bytes larger.
    """
    missing = size_bytes - len(body)
    if missing <= 0:
        return body
    if content_type != Encoding.PROTOBUF.media_type:
        return body + b" " * missing
    for head in range(6, 1, -1):  # the field's tag and length
        field = _field(_PADDING_FIELD, bytes(max(0, missing - head)))
        if len(field) >= missing:
            break
    return body + field


def status_body(
    encoding: Encoding, status: int, message: str, violations: Sequence[Violation] = ()
) -> bytes:
    """A google.rpc.Status; `violations` become its google.rpc.BadRequest detail."""
    code = grpc_code(status)
    if encoding is Encoding.PROTOBUF:
        body = b"\x08" + _varint(code) + _field(2, message.encode())
        if violations:
            value = b"".join(
                _field(1, _field(1, v.path.encode()) + _field(2, v.description.encode()))
                for v in violations
            )
            body += _field(3, _field(1, _BAD_REQUEST.encode()) + _field(2, value))
        return body
    document: dict[str, Any] = {"code": code, "message": message}
    if violations:
        listed = [{"field": v.path, "description": v.description} for v in violations]
        document["details"] = [{"@type": _BAD_REQUEST, "fieldViolations": listed}]
    return _json(document)


# google.rpc's generated classes are not part of opentelemetry-proto; three length-delimited fields
# do not warrant another dependency. The tests read the result with the official classes.


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
