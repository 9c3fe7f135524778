"""A body in; whether it holds too much to be decoded in the event loop out.

What costs time and memory is not bytes but what they are made of: a megabyte of `{}` is 350,000
objects, a megabyte of empty protobuf messages half a million. The loop must never stand still for
more than some tens of milliseconds, so such bodies are left to the offload process. What is asked
here costs next to nothing: a length, a sample of a large JSON body, a few lengths of lists of a
decoded protobuf body.
"""

import random
from collections.abc import Sequence, Sized
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from relay.model.records import Encoding

KIB: Final = 1024
# Usual spans of this size take some 10 ms (half as many bytes in protobuf for the same spans).
MOST_BYTES: Final = {Encoding.JSON: 1024 * KIB, Encoding.PROTOBUF: 512 * KIB}
MOST_OBJECTS: Final = 40_000  # of JSON; usual spans have some 25,000 a megabyte
MOST_MESSAGES: Final = 10_000  # resources and scopes, spans, links: each of them
MOST_EXACT_BYTES: Final = 256 * KIB  # the exact way of JSON takes ten times as long
# A message takes two bytes at least, an object three: not worth a question.
NEVER_HEAVY_BYTES: Final = 2 * MOST_MESSAGES

_LEAST_DENSE_BYTES: Final = 3 * MOST_OBJECTS  # `{},` over and over: less cannot hold so many
_STRIDE_BYTES: Final = 8 * KIB
_WINDOW_BYTES: Final = 512


class TooHeavy(Exception):
    """Decoding or checking this body would hold the event loop for too long."""


def is_heavy(body: bytes, encoding: Encoding) -> bool:
    """Whether that shows before the body is decoded.

    Of a JSON body that is large but not too large, one byte in sixteen is looked at.
    """
    if len(body) > MOST_BYTES[encoding]:
        return True
    if encoding is not Encoding.JSON or len(body) < _LEAST_DENSE_BYTES:
        return False
    begin = random.randrange(_STRIDE_BYTES - _WINDOW_BYTES)  # noqa: S311 - nobody can write around it
    objects = sum(
        body.count(b"{", at, at + _WINDOW_BYTES) for at in range(begin, len(body), _STRIDE_BYTES)
    )
    return objects * (_STRIDE_BYTES // _WINDOW_BYTES) > MOST_OBJECTS


def refuse_many_messages(message: ExportTraceServiceRequest) -> None:
    """Raise TooHeavy for more resources, scopes or spans than the loop should look at."""
    entries = message.resource_spans
    if len(entries) > MOST_MESSAGES:
        raise TooHeavy
    scopes = spans = 0
    for entry in entries:
        scopes += len(entry.scope_spans)
        if scopes > MOST_MESSAGES:
            raise TooHeavy
        for scope in entry.scope_spans:
            spans += len(scope.spans)
    if spans > MOST_MESSAGES:
        raise TooHeavy


def refuse_many_links(lists: Sequence[Sized]) -> None:
    """Raise TooHeavy if these lists, of links, are too long together."""
    if sum(map(len, lists)) > MOST_MESSAGES:
        raise TooHeavy
