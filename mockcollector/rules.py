"""What a collector insists on, as values: rules in, and `Refused` for what breaks them out.

The defaults are the strict collector that follows the OTLP specification; a vendor's
behaviour (`mockcollector.profiles`) is other values of the same rules.
"""

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mockcollector.signals import Request

MIB = 1024 * 1024


class Encoding(enum.StrEnum):
    """The two encodings of OTLP/HTTP, by the names users type."""

    JSON = "json"
    PROTOBUF = "protobuf"

    @property
    def media_type(self) -> str:
        """The media type that the OTLP specification demands for it."""
        return "application/json" if self is Encoding.JSON else "application/x-protobuf"


class Cause(enum.StrEnum):
    """Why a request is refused; a vendor has words of its own for some of these."""

    PATH = "path"
    METHOD = "method"
    HEADER = "header"
    MEDIA_TYPE = "media type"
    CODING = "coding"
    SIZE = "size"
    BODY = "body"  # damaged compression, or not what the encoding allows
    IDS = "ids"  # of spans
    ITEMS = "items"  # log records or data points that are invalid
    CONTENT = "content"  # well-formed, and this vendor does not take it


class TypeMatch(enum.StrEnum):
    """How a Content-Type is compared."""

    MEANING = "meaning"  # RFC 9110: parameters and case do not matter
    EXACT = "exact"  # the whole string: one with a parameter is unknown
    CONTAINS = "contains"


class IdRule(enum.StrEnum):
    """Which ids of spans are right; the first that is wrong refuses the whole batch.

    Those of log records and exemplars are optional: but for `ANY` they have their length or none.
    """

    VALID = "valid"  # trace.proto: 16 and 8 bytes, not all zero; parents and links are looked at
    NONZERO = "nonzero"  # 16 and 8 bytes, not all zero; parents and links as SIZED
    SIZED = "sized"  # 16 and 8 bytes or none, zero or not; parents and links likewise
    PRESENT = "present"  # not empty
    ANY = "any"


class ErrorForm(enum.StrEnum):
    """How a refusal's message is written where a vendor has no body of its own for it."""

    STATUS = "status"  # a google.rpc.Status in the encoding of the request, as OTLP demands
    TEXT = "text"  # as Go's http.Error does
    OCTETS = "octets"  # a Status in protobuf without a code, as application/octet-stream


Body = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wording:
    """How a vendor says no: its status, and a body of its own.

    `body` None is the message in the vendor's `ErrorForm`, a mapping is sent as JSON, a text as
    text/plain. `message` replaces ours; "{message}" in it is ours.
    """

    status: int
    message: str = "{message}"
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """A header that a vendor insists on. `expected` None: any value will do."""

    name: str
    expected: str | None = field(repr=False)
    missing: Wording
    wrong: Wording


@dataclass(frozen=True, slots=True)
class Payload:
    """A decoded request as a vendor's own checks see it: the plain body and what is in it."""

    body: bytes
    encoding: Encoding
    count: int
    message: Request


Check = Callable[[Payload], None]
"""A vendor's look at a decoded request; raises Refused."""

BOTH_TYPES: Mapping[str, Encoding] = {each.media_type: each for each in Encoding}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a request must be, and how one is answered that is not, or that is.

    `required_headers` maps a name to the value it must have, or to None where any value will do;
    `header_rules` are a vendor's own, with its answers. `max_body_bytes` holds before and after
    decompression; 64 MiB is what OTLP recommends. `protobuf_paths` are further paths that take
    protobuf only, `media_types` what a Content-Type stands for. `wordings` are a vendor's
    answers by cause, `errors` the form of those without a body. With `is_coding_first` the
    Content-Encoding is judged before path, method and all else. `empty_partial` writes success with
    an empty partial_success in it, `bare_success` with no body at all. `takes_invalid_points` lets
    data points without a time or value pass, and metrics without a name. With `closed` there is an
    endpoint that answers everything so and keeps nothing.
    """

    path: str = "/v1/traces"
    required_headers: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    max_body_bytes: int = 64 * MIB
    protobuf_paths: tuple[str, ...] = ()
    header_rules: tuple[HeaderRule, ...] = ()
    media_types: Mapping[str, Encoding] = field(default_factory=lambda: BOTH_TYPES)
    type_match: TypeMatch = TypeMatch.MEANING
    codings: tuple[str, ...] = ("gzip", "x-gzip", "deflate", "zstd")
    is_coding_case_exact: bool = False
    is_coding_first: bool = False
    ids: IdRule = IdRule.VALID
    takes_invalid_points: bool = False
    checks: tuple[Check, ...] = ()
    wordings: Mapping[Cause, Wording] = field(default_factory=dict)
    errors: ErrorForm = ErrorForm.STATUS
    success_status: int = 200
    empty_partial: bool = False
    bare_success: bool = False
    closed: Wording | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One place in a body that is wrong, in the words of google.rpc.BadRequest."""

    path: str
    description: str


class Refused(Exception):
    """A request breaks a rule: it is answered with `status` and the message in a Status body.

    The message names places, header names and sizes; never header values or bytes of the body.
    With `body` that is the answer instead of a Status. `stored` are the places of those items that
    are kept all the same, counted from 0 in the order of the request.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        cause: Cause = Cause.BODY,
        headers: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        body: Body | None = None,
        stored: Collection[int] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.cause = cause
        self.headers = dict(headers or {})
        self.violations = violations
        self.body = body
        self.stored = stored

    def worded(self, wording: Wording | None) -> "Refused":
        """The same refusal as a vendor says it."""
        if wording is None:
            return self
        return Refused(
            wording.status,
            wording.message.replace("{message}", self.message),
            cause=self.cause,
            headers=wording.headers,
            body=wording.body,
            stored=self.stored,
        )
