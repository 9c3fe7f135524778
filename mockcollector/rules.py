"""What the collector insists on, as values: rules in, and `Refused` for what breaks them out.

A leaf. A later preset for one vendor's behaviour is another `Rules`.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024


class Encoding(enum.StrEnum):
    """The two encodings of OTLP/HTTP, by the names users type."""

    JSON = "json"
    PROTOBUF = "protobuf"

    @property
    def media_type(self) -> str:
        """The media type that the OTLP specification demands for it."""
        return "application/json" if self is Encoding.JSON else "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Rules:
    """Path, headers and size that a request must have.

    `required_headers` maps a name to the value it must have, or to None where any value will do.
    `max_body_bytes` holds before and after decompression; 64 MiB is what OTLP recommends.
    """

    path: str = "/v1/traces"
    required_headers: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    max_body_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Violation:
    """One place in a body that is wrong, in the words of google.rpc.BadRequest."""

    path: str
    description: str


class Refused(Exception):
    """A request breaks a rule: it is answered with `status` and the message in a Status body.

    The message names places, header names and sizes; never header values or bytes of the body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.violations = violations
