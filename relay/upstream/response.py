"""A response as far as it was read, and what of it may be shown: the upstream's words, masked."""

import contextlib
import http
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar
from urllib.parse import unquote

import anyio.lowlevel
import httpcore2
import structlog

from relay.otlp import upstream_response
from relay.otlp.words import clean, mask
from relay.upstream.routes import without_query

log = structlog.stdlib.get_logger(__name__)

MAX_RESPONSE_BYTES = 64 * 1024
MAX_SUCCESS_BYTES = 4 * 1024 * 1024  # what OTLP lets a receiver say in a success
# A reader of so many pieces of a few bytes each would be at it for seconds.
MAX_PIECES = 16_384
PIECES_AT_ONCE = 64
MAX_WORDS_CHARACTERS = 500

_OTLP_TYPES = frozenset({"application/json", "application/x-protobuf", "application/protobuf"})
_CHALLENGE = "x-amzn-waf-action"  # a firewall's, with a 202

FULL_SUCCESS = upstream_response.SuccessBody()

Found = TypeVar("Found")


@dataclass
class Response:
    """A response whose head is there; `read` fills in the body.

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

    @classmethod
    def of(cls, response: httpcore2.Response, secrets: tuple[str, ...]) -> "Response":
        """The head of what the engine has."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in response.headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            is_list = name == "retry-after" and name in headers
            headers[name] = f"{headers[name]}, {value}" if is_list else value
        return cls(response.status, headers, secrets=secrets)

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

    async def read(self, response: httpcore2.Response) -> None:
        """Fill in the body, unzipped, up to the cap. One that breaks off is as far as it came.

        The status has been said: what happens to the body does not change it.
        """
        unzip = _decoder(self.headers.get("content-encoding", ""))
        is_otlp = self.is_2xx and self.content_type in _OTLP_TYPES
        cap = MAX_SUCCESS_BYTES if is_otlp else MAX_RESPONSE_BYTES
        arrived, pieces, body = 0, 0, bytearray()
        try:
            async with contextlib.aclosing(response.aiter_stream()) as chunks:
                async for chunk in chunks:
                    arrived += len(chunk)
                    pieces += 1
                    body += unzip(chunk, cap - len(body))
                    if max(arrived, len(body)) >= cap or pieces > MAX_PIECES:
                        self.ending = "too long"
                        return
                    if not pieces % PIECES_AT_ONCE:
                        await anyio.lowlevel.checkpoint()
            self.ending = "whole"
        except (httpcore2.NetworkError, httpcore2.ProtocolError, zlib.error, OSError) as error:
            self.ending, self.cut_by = "cut", str(error)[:200]
        finally:
            self.body = bytes(body)


def _decoder(content_encoding: str) -> Callable[[bytes, int], bytes]:
    """Unzips chunk by chunk, at most so many bytes: we asked for identity, some zip all the same.

    Words in a coding we do not know are no words.
    """
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return lambda chunk, room: chunk[:room]
    if coding in ("gzip", "x-gzip", "deflate"):
        unzip = zlib.decompressobj(wbits=47)  # gzip or zlib by its first bytes
        return lambda chunk, room: unzip.decompress(chunk, room) if room > 0 else b""
    return lambda _chunk, _room: b""
