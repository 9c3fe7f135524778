"""Compression both ways: bodies of senders, within every limit, of upstreams and of the disk.

The cap counts bytes that come out, since half a kilobyte can say anything, and output is made in
steps, so that a bomb stops at the cap. CPU has its own two bounds. A part (gzip member or zstd
frame) costs as much as setting up a decoder, so parts must on average yield something. And blocks
that yield nothing cost time, too, so the compressed form must not be far longer than the plain one.
"""

import io
import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

from relay.model.errors import Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS = ("gzip", "deflate", "zstd")
"""What a sender may name in Content-Encoding beside identity: the value for Accept-Encoding."""

_STEP_BYTES = 65536
_STOP_BYTES = 4 * _STEP_BYTES
_FREE_MEMBERS = 64
# By coding: a frame of zstd costs some 10 µs, whatever it holds.
_LEAST_MEMBER_BYTES = {"gzip": 256, "zstd": 2048}
_FREE_WASTE_BYTES = 65536
# 8 MiB, what RFC 9659 lets a sender of HTTP expect, and no more: the window is memory.
ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


class _Decoder(Protocol):
    """What zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip_decoder() -> _Decoder:
    return zlib.decompressobj(wbits=31)


def _zstd_decoder() -> _Decoder:
    return zstd.ZstdDecompressor(options=ZSTD_OPTIONS)


def _deflate_decoder(head: bytes) -> _Decoder:
    # By its standard "deflate" is zlib's form, yet some senders leave the header out. A raw stream
    # cannot look like one: it would begin with a stored block whose padding bits are not zero.
    is_zlib = head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    return zlib.decompressobj(wbits=15 if is_zlib else -15)


class Inflater:
    """Takes a body chunk by chunk as it arrives and gives it back whole, decompressed.

    `coding` is a Content-Encoding, any case; "" and "identity" pass bytes on, under the same cap.
    A gzip body may have several members, a zstd body several frames. Go through the `steps` of
    every chunk, then call `finish` once. No bytes are an error for every coding but identity.
    """

    def __init__(self, coding: str, cap_bytes: int) -> None:
        self._coding = coding.strip().lower() or "identity"
        self._cap_bytes = cap_bytes
        if self._coding not in (*CODINGS, "identity"):
            raise Refusal(
                f"the content encoding is not supported; use one of {', '.join(CODINGS)}",
                status=415,
            )
        self._body = io.BytesIO()  # getvalue() shares its buffer: a body is in memory once
        self._decoder: _Decoder | None = None
        self._members = 0
        self._fed_bytes = 0
        self._head = b""  # the first byte of deflate while the second is awaited
        self._stop_at_bytes = _STOP_BYTES
        self.inflated_bytes = 0
        """How many bytes have come out so far."""

    def steps(self, chunk: bytes) -> Iterator[None]:
        """Take the next bytes of the body; stop whenever a further quarter of a MiB has come out.

        Raises Refusal: 413 over the cap, 400 for wrong data. Sixty kilobytes can hold sixty-four
        MiB, which take 0.2 s: an event loop has more to do.
        """
        if self._coding == "identity":
            self._keep(chunk)
            return
        try:
            for start in range(0, len(chunk), _STEP_BYTES):
                yield from self._feed_step(chunk[start : start + _STEP_BYTES])
        except (zlib.error, zstd.ZstdError, EOFError):
            window = ", or needs a window above 8 MiB" if self._coding == "zstd" else ""
            raise Refusal(f"the body is not valid {self._coding}{window}") from None

    def finish(self) -> bytes:
        """Give the whole body. Raises Refusal (400) when its compressed form is not complete."""
        if self._coding != "identity" and (self._decoder is None or not self._decoder.eof):
            missing = "is empty" if not (self._decoder or self._head) else "ends too early"
            raise Refusal(f"the {self._coding} body {missing}")
        return self._body.getvalue()

    def _keep(self, piece: bytes) -> None:
        self.inflated_bytes += len(piece)
        if self.inflated_bytes > self._cap_bytes:
            form = "" if self._coding == "identity" else f" after {self._coding} decompression"
            raise Refusal(
                f"the body is larger than {self._cap_bytes} bytes{form}", status=413, grpc_code=8
            )
        self._body.write(piece)

    def _feed_step(self, data: bytes) -> Iterator[None]:
        self._fed_bytes += len(data)
        while data:
            decoder = self._decoder
            if decoder is None or (decoder.eof and self._coding != "deflate"):
                decoder = self._next_decoder(data)
                if decoder is None:
                    return
                data, self._head = self._head + data, b""
            elif decoder.eof:
                raise Refusal("the deflate body goes on after its end")
            yield from self._drain(decoder, data)
            data = decoder.unused_data if decoder.eof else b""
        if self._fed_bytes > 2 * self.inflated_bytes + _FREE_WASTE_BYTES:
            raise Refusal(f"the {self._coding} body is far longer than what it holds")

    def _next_decoder(self, data: bytes) -> _Decoder | None:
        """Set up the decoder of the member that begins with `data`; None: too few bytes to tell."""
        self._members += 1
        spare = self._members - _FREE_MEMBERS
        if spare > 0 and self.inflated_bytes < spare * _LEAST_MEMBER_BYTES[self._coding]:
            raise Refusal(
                f"the {self._coding} body consists of too many parts that hold too little"
            )
        if self._coding == "deflate":
            head = self._head + data
            if len(head) < 2:
                self._head = head
                return None
            self._decoder = _deflate_decoder(head)
        else:
            self._decoder = _gzip_decoder() if self._coding == "gzip" else _zstd_decoder()
        return self._decoder

    def _drain(self, decoder: _Decoder, data: bytes) -> Iterator[None]:
        while True:
            piece = decoder.decompress(data, _STEP_BYTES)
            self._keep(piece)
            if self.inflated_bytes >= self._stop_at_bytes:
                self._stop_at_bytes = self.inflated_bytes + _STOP_BYTES
                yield
            # zlib hands back what it has not read yet, zstd keeps it to itself.
            data = getattr(decoder, "unconsumed_tail", b"")
            if decoder.eof or (len(piece) < _STEP_BYTES and not data):
                return


def gzip_level_1(body: bytes) -> bytes:
    """Compress a body for an upstream. Call it in a thread: 4 MiB take some 30 ms (the GIL is
    released), and level 6 takes five times as long for a few percent.
    """
    return zlib.compress(body, level=1, wbits=31)
