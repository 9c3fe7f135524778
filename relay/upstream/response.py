"""A response as far as it was read, and what of it may be shown: the upstream's words, masked."""

import http
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar
from urllib.parse import unquote

import structlog

from relay.otlp import upstream_response
from relay.otlp.words import clean, mask
from relay.upstream.routes import without_query

log = structlog.stdlib.get_logger(__name__)

MAX_WORDS_CHARACTERS = 500

OTLP_TYPES = frozenset({"application/json", "application/x-protobuf", "application/protobuf"})
_CHALLENGE = "x-amzn-waf-action"  # a firewall's, with a 202

FULL_SUCCESS = upstream_response.SuccessBody()

Found = TypeVar("Found")


@dataclass
class Response:
    """A response whose head is there; `response_reader` fills in the body.

    `ending` tells how the body came to its end, or did not; `mended` is a line of the head that
    broke a rule of HTTP; `secrets` are masked in all that is shown.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    ending: Literal["whole", "too long", "too slow", "cut"] = "too slow"
    cut_by: str = ""
    mended: str = ""

    @property
    def content_type(self) -> str:
        """The bare media type, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_page(self) -> bool:
        """Whether it is an HTML page."""
        start = self.body[:512].lstrip().lower()
        return "html" in self.content_type or start.startswith((b"<!doctype html", b"<html"))

    @property
    def status_line(self) -> str:
        """The status as people know it, such as `403 Forbidden`."""
        try:
            return f"{self.status} {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            return f"{self.status}"

    @property
    def said(self) -> str:
        """Status and words in one line, such as `403 Forbidden: “token revoked”`."""
        return f"{self.status_line}: “{self.words}”" if self.words else self.status_line

    @cached_property
    def heard(self) -> str:
        """The upstream's words unmasked, to be compared and not shown."""
        words = self._read(lambda: upstream_response.read_words(self.body, self._full_type), "")
        return words or unquote(self.headers.get("grpc-message", ""))

    @cached_property
    def words(self) -> str:
        """The upstream's words, to be shown."""
        return self.shown(self.heard)

    @property
    def is_2xx(self) -> bool:
        """Whether the status says success (`is_success` tells whether it is one)."""
        return 200 <= self.status < 300

    @property
    def is_success(self) -> bool:
        """Whether it was taken: a 2xx that does not say the contrary. The one judgement of it."""
        return self.is_2xx and not self.success.failure

    @property
    def is_grpc(self) -> bool:
        """Whether it is the response of a gRPC server: its 200 says nothing."""
        return "application/grpc" in self.content_type or (
            self.is_2xx and self.headers.get("grpc-status", "0").strip() != "0"
        )

    @cached_property
    def success(self) -> upstream_response.SuccessBody:
        """What a 2xx says; its message is unmasked."""
        said = FULL_SUCCESS
        if self.is_grpc:
            return said._replace(is_otlp=False, failure="an answer of gRPC")
        if _CHALLENGE in self.headers:
            return said._replace(is_otlp=False, failure="a firewall's challenge")
        if self.ending == "too long":
            return said._replace(is_otlp=False, failure="a body without an end")
        if self.body in (b"", b"{}"):
            return said
        return self._read(lambda: upstream_response.read_success(self.body, self._full_type), said)

    @property
    def location(self) -> str:
        """Where a redirect leads to, without what may be secret."""
        return self.shown(without_query(self.headers.get("location", "")))

    @property
    def _full_type(self) -> str:
        return self.headers.get("content-type", "")

    def _read(self, read: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return read()
        except Exception:
            # The upstream has decided; that its words cannot be read must not undo it.
            log.exception("answer_not_readable", status=self.status)
            return otherwise

    def shown(self, words: str) -> str:
        """Words of somebody else in one short line, secrets masked."""
        return mask(clean(words, MAX_WORDS_CHARACTERS), self.secrets) if words else ""
