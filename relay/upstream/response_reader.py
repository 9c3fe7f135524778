"""Reads one response off the wire: its head, its body as far as it is wanted, how it ended."""

import zlib
from collections.abc import Callable
from typing import Literal

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpResponseParser,
)

from relay.upstream.response import OTLP_TYPES, Response
from relay.upstream.response_head import HeadReader, is_plain

MAX_RESPONSE_BYTES = 64 * 1024
MAX_SUCCESS_BYTES = 4 * 1024 * 1024  # what OTLP lets a receiver say in a success
# A reader of so many pieces of a few bytes each would be at it for seconds.
MAX_PIECES = 16_384
# Of what is not the body: the head, the sizes of chunks, fields behind the body.
MAX_FRAMING_BYTES = 1024 * 1024


class NoHttp(Exception):
    """What the peer says is no response of HTTP/1."""


class ResponseReader:
    """Takes the bytes of one response. `response` is there with the head.

    `is_done`: nothing more of it is wanted; the status has been said, and what happens to the body
    does not change it. `is_reusable`: the connection can go on behind it. With `only_head` it is
    done with the head, as a proxy's 200 to CONNECT is. `secrets` are masked in what is shown.
    """

    def __init__(self, secrets: tuple[str, ...] = (), *, only_head: bool = False) -> None:
        self.response: Response | None = None
        self.phrase = b""  # as it stands behind the status
        self.is_done = False
        self.is_reusable = False
        self._secrets = secrets
        self._only_head = only_head
        self._is_in_head = True
        self._head: HeadReader | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._fed = 0
        self._arrived = 0  # of the body, before it is unzipped
        self._pieces = 0
        self._cap = MAX_RESPONSE_BYTES
        self._unzip: Callable[[bytes, int], bytes] = _as_it_is
        self._keeps_alive = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # What is seen in life and leaves no doubt. The head has been looked at by then.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_spaces_after_chunk_size=True
        )

    def feed(self, data: bytes) -> None:
        """More of it. Raises NoHttp or EndlessHead."""
        if self._is_in_head:
            if self._head is not None or not is_plain(data):
                head = self._head = self._head or HeadReader()
                found = head.feed(data)
                if found is None:
                    return
                data = found
            self._is_in_head = False
        if self._parser is None:
            self.is_reusable = False  # behind its end
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except HttpParserError as error:
            self.is_reusable = False
            if self.response is None:
                raise NoHttp from error
            self.end("cut", str(error))
        if self._fed - self._arrived > MAX_FRAMING_BYTES:
            self.end("too long")

    def end_of_stream(self) -> None:
        """The peer says nothing more."""
        is_framed = self._headers.keys() & {"content-length", "transfer-encoding"}
        self.end("cut" if is_framed else "whole", "the connection ended")

    def end(self, how: Literal["whole", "too long", "too slow", "cut"], why: str = "") -> None:
        """It is done, unless it was before; `why` it was cut."""
        if self.response is not None and not self.is_done:
            self.is_done = True
            self.response.ending = how
            self.response.body = bytes(self._body)
            self.response.cut_by = why[:200] if how == "cut" else ""
            self._parser = None  # it knows this reader: both would wait for the garbage collector

    # What the parser calls

    def on_status(self, phrase: bytes) -> None:
        """The words behind the status."""
        self.phrase = phrase

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        """A field of the head, or behind the body, where it is not read."""
        if self.response is None:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
            is_list = name == "retry-after" and name in self._headers
            self._headers[name] = f"{self._headers[name]}, {value}" if is_list else value

    def on_headers_complete(self) -> None:
        """The status has been said."""
        if self.response is not None or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # nobody asked for another protocol
            raise NoHttp
        self.response = response = Response(status, self._headers, secrets=self._secrets)
        if self._head is not None and self._head.mended:
            response.mended = response.shown(self._head.mended)
        self._keeps_alive = self._parser.should_keep_alive()
        if response.is_2xx and response.content_type in OTLP_TYPES:
            self._cap = MAX_SUCCESS_BYTES
        self._unzip = _decoder(self._headers.get("content-encoding", ""))
        if self._only_head:
            self.end("whole")
            self.is_reusable = True

    def on_body(self, piece: bytes) -> None:
        """A piece of the body: unzipped, up to the cap."""
        if self.is_done:
            return
        self._arrived += len(piece)
        self._pieces += 1
        try:
            self._body += self._unzip(piece, self._cap - len(self._body))
        except zlib.error as error:
            self.end("cut", str(error))
            return
        if max(self._arrived, len(self._body)) >= self._cap or self._pieces > MAX_PIECES:
            self.end("too long")

    def on_message_complete(self) -> None:
        """The end of the response."""
        if not self.is_done:
            self.end("whole")
            self.is_reusable = self._keeps_alive

    def on_message_begin(self) -> None:
        """Of this response, or of one behind it that nobody asked for."""
        self.is_reusable = False


def _as_it_is(piece: bytes, room: int) -> bytes:
    return piece[:room]


def _decoder(content_encoding: str) -> Callable[[bytes, int], bytes]:
    """Unzips piece by piece, at most so many bytes: we asked for identity, some zip all the same.

    Words in a coding we do not know are no words.
    """
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return _as_it_is
    if coding in ("gzip", "x-gzip", "deflate"):
        unzip = zlib.decompressobj(wbits=47)  # gzip or zlib by its first bytes
        return lambda piece, room: unzip.decompress(piece, room) if room > 0 else b""
    return lambda _piece, _room: b""
