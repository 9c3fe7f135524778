"""Request headers as ASGI has them go in; what they say of the body comes out."""

from collections.abc import Sequence
from typing import Final

from relay.model.errors import Refusal
from relay.model.records import Encoding

Headers = dict[bytes, bytes]
HeaderList = Sequence[tuple[bytes, bytes]]

_ENCODINGS: Final = {
    b"application/json": Encoding.JSON,
    b"application/x-protobuf": Encoding.PROTOBUF,
    b"application/protobuf": Encoding.PROTOBUF,  # decision D10: some senders write it so
}
# Named as in RFC 9110 section 8.4.1, and its old alias for gzip.
_CODINGS: Final = {
    b"gzip": "gzip",
    b"x-gzip": "gzip",
    b"deflate": "deflate",
    b"zstd": "zstd",
    b"identity": "",
    b"": "",
}
ACCEPT_ENCODING: Final = ((b"accept-encoding", b"gzip, deflate, zstd"),)


class HttpRefusal(Refusal):
    """A refusal that needs headers of its own in the answer."""

    def __init__(
        self, message: str, *, status: int, grpc_code: int, headers: HeaderList = ()
    ) -> None:
        super().__init__(message, status=status, grpc_code=grpc_code)
        self.headers = headers


def joined(raw: HeaderList) -> Headers:
    """Headers by lower-case name; one that stands there twice is joined by a comma."""
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def encoding_of(headers: Headers) -> Encoding | None:
    """The encoding that Content-Type names, None if it is missing or no encoding of ours.

    Case and parameters such as `charset` do not matter (decision D10).
    """
    value = headers.get(b"content-type", b"")
    known = _ENCODINGS.get(value)
    return known or _ENCODINGS.get(value.partition(b";")[0].strip().lower())


def coding_of(headers: Headers) -> str:
    """The compression that Content-Encoding names, empty for none.

    Raises Refusal 415 for codings we do not know and for more than one.
    """
    value = headers.get(b"content-encoding")
    if value is None:
        return ""
    coding = _CODINGS.get(value.strip().lower())
    if coding is None:
        raise HttpRefusal(
            "this Content-Encoding is not taken; gzip, deflate, zstd and none are, one at a time",
            status=415,
            grpc_code=3,
            headers=ACCEPT_ENCODING,
        )
    return coding


def refuse_long(headers: Headers, cap_bytes: int) -> None:
    """Raise Refusal 413 if Content-Length announces more than `cap_bytes`."""
    value = headers.get(b"content-length", b"0")
    if len(value) > 18 or int(value) > cap_bytes:
        raise too_long(cap_bytes)


def too_long(cap_bytes: int) -> Refusal:
    """The refusal of a body over the limit, before or after decompression."""
    return Refusal(
        f"the body has more than {cap_bytes} bytes, the limit of this relay (ingest.max_body); "
        "send smaller batches (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)",
        status=413,
        grpc_code=8,
    )


def is_connection_test(headers: Headers) -> bool:
    """Whether the sender only tests the connection, as OpenRouter does."""
    value = headers.get(b"x-test-connection")
    return value is not None and value.strip().lower() == b"true"
