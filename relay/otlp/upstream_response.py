"""What an upstream says in the body of a response. Pure.

Every form seen in the field is read, and nothing an upstream may send can raise here.
"""

import re
from typing import Any, NamedTuple

import msgspec
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from relay.otlp.signals import WIRE
from relay.otlp.words import clean, decode_text, strip_tags

WEB_PAGE = "a web page"
HEALTH_CHECK = "the answer of a health check"

_MAX_READ_BYTES = 65536
_MAX_WORDS = 1000


class SuccessBody(NamedTuple):
    """What the body of a 2xx says.

    `rejected` items were refused, with `message`; 0 with a message is a warning. `is_otlp`: it is a
    response of OTLP, or empty, and not in a format of its own. `failure` is what shows that nothing
    was taken in spite of the status, such as `an error`; empty for a success.
    """

    rejected: int = 0
    message: str = ""
    is_otlp: bool = True
    failure: str = ""


_SHORT = 100  # bytes: more is neither a code nor empty
_CODE = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_ABSENT = msgspec.Raw(b"null")
_COUNTS = tuple(name for wire in WIRE.values() for name in wire.rejected.values())


def _raw_struct(name: str, *keys: str, is_strict: bool = False) -> type[msgspec.Struct]:
    """Keys of a JSON object that are looked at; what a hostile upstream puts there is not built."""
    fields = [(key, msgspec.Raw, _ABSENT) for key in keys]
    return msgspec.defstruct(name, fields, forbid_unknown_fields=is_strict)


_PARTIAL = ("partialSuccess", "partial_success")  # as OTLP writes it, and as some do
_Response = _raw_struct("_Response", *_PARTIAL, is_strict=True)
_Partial = _raw_struct("_Partial", *_COUNTS, "errorMessage", "error_message")
_Document = _raw_struct(
    "_Document", *_PARTIAL, "error", "errors", "successes", "code", "status", "success", "ok"
)
_PROTOBUF_TYPES = frozenset({"application/x-protobuf", "application/protobuf"})
_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark among it
_GRPC_CODES = re.compile(
    r"cancelled|unknown|invalid_?argument|deadline_?exceeded|not_?found|already_?exists|"
    r"permission_?denied|resource_?exhausted|failed_?precondition|aborted|out_?of_?range|"
    r"unimplemented|internal|unavailable|data_?loss|unauthenticated",
    re.IGNORECASE,
)
_FAILED = frozenset({"error", "fail", "failed", "failure", "unauthorized", "forbidden"})
# Of checks whether a server is up, among them that of the OpenTelemetry Collector.
_HEALTH = frozenset({"up", "down", "healthy", "unhealthy", "alive", "server available"})
_REFUSAL = re.compile(
    r"(?:http/\S+ )?(?:[45]\d\d\W+)?(?:error\b|unauthori[sz]ed|unauthenticated|forbidden|"
    r"(?:access|permission) denied|(?:page )?not found|bad request|method not allowed|"
    r"internal server error|invalid (?:api|token|key|credentials))",
    re.IGNORECASE,
)


def read_success(body: bytes, content_type: str) -> SuccessBody:
    """Read the body of a 2xx, by what it is rather than by what it is called. Never raises.

    What OTLP's receivers answer is a success, and so is what says neither yes nor no: the status
    has said it. Not so a web page, an error, a code other than 0 and 2xx, a health check.
    """
    text = body[:512].lstrip(_BLANK)
    if not text:
        return SuccessBody()
    if text[:1] == b"<":
        return SuccessBody(is_otlp=False, failure=WEB_PAGE)
    if text[:1] == b"{":
        return _read_json_success(body, content_type)
    found = _read_protobuf_success(body)
    is_text = _media_type(content_type).startswith("text/")
    if found is None or (is_text and not found.is_otlp):
        return _in_own_format(body, content_type)
    return found


def _in_own_format(body: bytes, content_type: str) -> SuccessBody:
    refuses = _REFUSAL.match(read_words(body, content_type))
    return SuccessBody(is_otlp=False, failure="a refusal" if refuses else "")


def _read_protobuf_success(body: bytes) -> SuccessBody | None:
    """None for what is no message of OTLP."""
    try:
        response = ExportTraceServiceResponse.FromString(body)
        status = ExportTracePartialSuccess.FromString(body)
    except DecodeError:
        return _read_odd_partial(body)
    size = response.ByteSize()
    response.DiscardUnknownFields()
    if response.ByteSize() == size:
        partial = response.partial_success
        return SuccessBody(max(0, partial.rejected_spans), _words(partial.error_message))
    # The first field of google.rpc.Status is its code, where a response has a message.
    if status.rejected_spans:
        return SuccessBody(is_otlp=False, failure=f"a Status with code {status.rejected_spans}")
    return SuccessBody(is_otlp=False)


def _read_odd_partial(body: bytes) -> SuccessBody | None:
    """A partial success whose message is no UTF-8: some servers write what they were given."""
    partial = _fields_of(_fields_of(body[:_MAX_READ_BYTES]).get(1))
    count, message = partial.get(1, 0), partial.get(2, b"")
    if not isinstance(count, int) or not isinstance(message, bytes) or not message:
        return None
    return SuccessBody(_read_count(count), _words(message.decode("utf-8", "replace")))


def _fields_of(body: Any) -> dict[int, Any]:
    """The fields of a message without knowing its kind; empty for what is none."""
    try:
        fields = UnknownFieldSet(Empty.FromString(body))
    except (DecodeError, TypeError):
        return {}
    return {each.field_number: each.data for each in map(fields.__getitem__, range(len(fields)))}


def _read_json_success(body: bytes, content_type: str) -> SuccessBody:
    body = body.decode("utf-8-sig", "replace").encode()
    document = _decode_json(body, _Document)
    if document is None:
        return _in_own_format(body, content_type)
    failure = _failure_of(document)
    if failure:
        return SuccessBody(is_otlp=False, failure=failure)
    partial = _read_partial(document)
    if _decode_json(body, _Response) is not None:
        return partial
    if not partial.message and not partial.rejected:
        partial = _in_own_format(body, content_type)
    if _is_set(document.errors):
        said = bytes(document.errors)[:_MAX_READ_BYTES]
        refused = _decode_json(said, list[msgspec.Raw]) or ()
        return SuccessBody(len(refused), read_words(said, "application/json"), is_otlp=False)
    return partial._replace(is_otlp=False)


def _failure_of(document: Any) -> str:
    """What in a JSON object says that nothing was taken; empty if nothing does."""
    if _is_set(document.error) or (_is_set(document.errors) and not _is_set(document.successes)):
        return "an error"
    code, status = _scalar(document.code), _scalar(document.status)
    if isinstance(code, str):
        code = int(code) if _CODE.fullmatch(code) else code
    is_name = isinstance(code, str) and _GRPC_CODES.fullmatch(code)
    is_number = type(code) is int and code != 0 and not 200 <= code < 300
    if is_name or is_number:
        return f"code {code}"
    if _scalar(document.success) is False or _scalar(document.ok) is False:
        return "an error"
    if isinstance(status, str):
        if status.lower() in _HEALTH:
            return HEALTH_CHECK
        return "an error" if status.lower() in _FAILED else ""
    return f"status {status}" if type(status) is int and 400 <= status < 600 else ""


def _is_set(raw: msgspec.Raw) -> bool:
    return len(raw) > _SHORT or bool(_decode_json(raw))


def _scalar(raw: msgspec.Raw) -> Any:
    return None if len(raw) > _SHORT else _decode_json(raw)


def _read_partial(document: Any) -> SuccessBody:
    found = next(filter(_is_set, (getattr(document, key) for key in _PARTIAL)), _ABSENT)
    partial = _decode_json(found, _Partial)
    if partial is None:
        return SuccessBody()
    texts = (_decode_json(raw, str) for raw in (partial.errorMessage, partial.error_message))
    rejected = max(_read_count(_scalar(getattr(partial, key))) for key in _COUNTS)
    return SuccessBody(rejected, _words(next(filter(None, texts), "")))


def _words(message: str) -> str:
    return clean(message[: 4 * _MAX_WORDS], _MAX_WORDS)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _read_count(value: Any) -> int:
    """A short int64 as JSON has it: a decimal string or a number; 0 for anything else."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() else 0
    if isinstance(value, float):
        value = int(value) if value.is_integer() else 0
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 < value < 2**63 else 0


def _decode_json(body: bytes | msgspec.Raw, kind: Any = Any) -> Any:
    """None for what is no JSON, or of another kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read_words(body: bytes, content_type: str, limit: int = _MAX_WORDS) -> str:
    """Give an upstream's own words out of the body of an error: at most `limit` characters in
    one line, without control characters; empty when there are none to read. Never raises.

    Mask secrets before showing them to anyone (`words.mask`).
    """
    body = body[:_MAX_READ_BYTES]
    media_type = _media_type(content_type)
    if media_type in _PROTOBUF_TYPES:
        status = _read_status(body)
        if status is not None:
            return clean(status, limit)
    text = decode_text(body)
    if "json" in media_type or text[:1] in {"{", "["}:
        document = _decode_json(body)
        if document is not None:
            return clean(_find_words(document) or text, limit)
    if "html" in media_type or text[:1] == "<":
        text = strip_tags(text)
    return clean(text, limit)


def _read_status(body: bytes) -> str | None:
    try:
        return ExportTracePartialSuccess.FromString(body).error_message
    except DecodeError:
        return None


# Where backends put their words, the most telling first.
_WORD_KEYS = ("message", "error", "detail", "errors", "error_description", "msg", "title", "reason")


def _find_words(document: Any, depth: int = 0) -> str:
    if isinstance(document, str):
        return document
    if depth > 4:
        return ""
    if isinstance(document, list):
        found = [_find_words(item, depth + 1) for item in document[:20]]
        return "; ".join(words for words in found if words)
    if isinstance(document, dict):
        for key in _WORD_KEYS:
            words = _find_words(document.get(key), depth + 1)
            if words:
                return words
    return ""
