"""A body in; whether it holds too much to be decoded in the event loop out.

What costs time and memory is not bytes but what they are made of: a megabyte of `{}` is 350,000
objects, a megabyte of empty protobuf messages half a million. The loop must not stand still for
much more than 10 ms, so such bodies are left to the offload process. What is asked here costs next
to nothing: a length, a sample of a large JSON body, then lengths of the lists of a decoded body.
Whatever is looked at one by one in Python has a bound of its own here, by what it costs.
"""

import random
from collections.abc import Sequence, Sized
from typing import Any, Final

from relay.model.errors import Refusal, TooHeavy
from relay.model.records import Encoding
from relay.otlp.messages_metrics import (
    ExportMetricsServiceRequest,
    lists_of_numbers,
    points_of,
)
from relay.otlp.signals import Lists

KIB: Final = 1024
# Usual spans of this size take some 10 ms (half as many bytes in protobuf for the same spans).
MOST_BYTES: Final = {Encoding.JSON: 1024 * KIB, Encoding.PROTOBUF: 512 * KIB}
# Of JSON, and three for each hundred bytes: usual spans have some 30,000 a megabyte; 0.5 µs.
MOST_OBJECTS: Final = 10_000
# Of those the ones that are neither attributes nor their values: spans, events, points; 0.7 µs.
# Usual spans have 4000 a megabyte.
MOST_BARE_OBJECTS: Final = 10_000
MOST_COMMAS: Final = 200_000  # in lists of numbers; 0.03 µs
MOST_RESOURCES: Final = 1000  # a new one costs some 7 µs
MOST_MESSAGES: Final = 5000  # scopes, records, metrics and their points: each of them; 2 µs
MOST_NUMBERS: Final = 40_000  # in lists of histograms in JSON; 0.2 µs
# Attributes of a resource or scope in protobuf, which is copied for each rejected item under it.
MOST_AROUND: Final = 250
MOST_LINKS: Final = 4000  # of spans; 2 µs
MOST_FLAWED: Final = 2000  # spans and links among which some must be settled one by one; 3 µs
MOST_VALUES: Final = 10_000  # looked at one by one for NaN and infinities; 1 µs
MOST_TOKENS: Final = 3000  # commas where the exact way of JSON has to decide; 1 to 4 µs
LEAST_MESSAGE_BYTES: Final = 16  # a span has two ids, a record a time and a text
_MESSAGES_ALLOWED: Final = 10_000  # of any body, however few bytes it has
# Whatever they hold, so few bytes take no longer than that: broken items in protobuf, three bytes
# each, take the longest; 25 µs.
NEVER_HEAVY_BYTES: Final = 2 * KIB

_LEAST_DENSE_BYTES: Final = 3 * MOST_OBJECTS  # `{},` over and over: less cannot hold so many
_LEAST_EMPTY_BYTES: Final = 128 * KIB
_STRIDE_BYTES: Final = 8 * KIB
_WINDOW_BYTES: Final = 512
_TIMES: Final = _STRIDE_BYTES // _WINDOW_BYTES


def is_heavy(body: bytes, encoding: Encoding) -> bool:
    """Whether its length alone is too much."""
    return len(body) > MOST_BYTES[encoding]


def refuse_many_empty_fields(body: bytes) -> None:
    """Raise TooHeavy for protobuf of more empty messages than should be decoded in the loop."""
    if len(body) > _LEAST_EMPTY_BYTES and _has_empty_fields(body, 2 * MOST_MESSAGES):
        raise TooHeavy


def refuse_many_objects(body: bytes) -> None:
    """Raise TooHeavy for JSON of more than the Python path should decode in the loop, or of what
    costs it most: by a look at one byte in sixteen. The native pass counts for itself.
    """
    if len(body) < _LEAST_DENSE_BYTES:
        return
    sample = _sampled(body)
    objects = _TIMES * sample.count(b"{")
    if objects > MOST_OBJECTS + 3 * len(body) // 100:
        raise TooHeavy
    if objects > MOST_BARE_OBJECTS:
        bare = objects - 2 * _TIMES * sample.count(b'"key":')
        if bare > MOST_BARE_OBJECTS:
            raise TooHeavy
    if len(body) > MOST_COMMAS and _TIMES * sample.count(b",") > MOST_COMMAS:
        raise TooHeavy


def _sampled(body: bytes) -> bytes:
    """Windows of `body`, one behind the other: what they hold of anything is one part of `_TIMES`
    of what it holds.
    """
    begin = random.randrange(_STRIDE_BYTES - _WINDOW_BYTES)  # noqa: S311 - nobody can write around it
    return b"".join(
        [body[at : at + _WINDOW_BYTES] for at in range(begin, len(body), _STRIDE_BYTES)]
    )


def refuse_many_tokens(body: bytes) -> None:
    """Raise TooHeavy for more JSON than the exact way should read in the loop."""
    if body.count(b",") > MOST_TOKENS:
        raise TooHeavy


def refuse_many_messages(request: Any, lists: Lists) -> None:
    """Raise TooHeavy for more resources, scopes or records than the loop should look at.

    `request` is a decoded one of any signal and encoding, `lists` are the names of its lists.
    """
    _count_messages(request, lists, MOST_RESOURCES, MOST_MESSAGES)
    if isinstance(request, ExportMetricsServiceRequest):
        _refuse_many_points(request)


def _refuse_many_points(request: ExportMetricsServiceRequest) -> None:
    """Of JSON, where each point, and each number in its lists, is made normal before the check."""
    points = numbers = 0
    for entry in request.resourceMetrics:
        for scope in entry.scopeMetrics:
            for metric in scope.metrics:
                held = points_of(metric)
                points += len(held)
                if points > MOST_MESSAGES:
                    raise TooHeavy
                for point in held:
                    numbers += sum(map(len, lists_of_numbers(point)))
                if numbers > MOST_NUMBERS:
                    raise TooHeavy


def refuse_many_around(request: Any, lists: Lists) -> None:
    """Raise TooHeavy for a resource or scope of a protobuf request with too many attributes."""
    for entry in getattr(request, lists.entries):
        if len(entry.resource.attributes) > MOST_AROUND:
            raise TooHeavy
        for scope in getattr(entry, lists.scopes):
            if len(scope.scope.attributes) > MOST_AROUND:
                raise TooHeavy


def refuse_empty_messages(request: Any, lists: Lists, body_bytes: int) -> None:
    """Raise Refusal 413 for so many messages in so few bytes that most must be empty.

    Each costs some microseconds and half a kilobyte, and would be rejected in the end.
    """
    most = _most_messages(body_bytes)
    try:
        _count_messages(request, lists, most, most)
    except TooHeavy:
        raise _mostly_empty(body_bytes) from None


def refuse_empty_fields(body: bytes) -> None:
    """Likewise of protobuf, before it is decoded: what is empty takes two bytes."""
    if _has_empty_fields(body, _most_messages(len(body))):
        raise _mostly_empty(len(body))


def _has_empty_fields(body: bytes, most: int) -> bool:
    """Whether there are more than `most`. To count pairs of bytes takes six times as long as to
    count zeros, of which usual bodies have few.
    """
    return body.count(0) > most and body.count(b"\x0a\0") + body.count(b"\x12\0") > most


def _most_messages(body_bytes: int) -> int:
    return _MESSAGES_ALLOWED + body_bytes // LEAST_MESSAGE_BYTES


def _mostly_empty(body_bytes: int) -> Refusal:
    return Refusal(
        f"the body holds more than {_most_messages(body_bytes)} messages, which are too many for"
        f" its {body_bytes} bytes: most of them must be empty",
        status=413,
        grpc_code=8,
    )


def _count_messages(request: Any, lists: Lists, most_resources: int, most_messages: int) -> None:
    entries = getattr(request, lists.entries)
    if len(entries) > most_resources:
        raise TooHeavy
    scopes = records = 0
    for entry in entries:
        inner = getattr(entry, lists.scopes)
        scopes += len(inner)
        if scopes > most_messages:
            raise TooHeavy
        for scope in inner:
            records += len(getattr(scope, lists.records))
    if records > most_messages:
        raise TooHeavy


def refuse_many_links(lists: Sequence[Sized]) -> None:
    """Raise TooHeavy if these lists, of links, are too long together."""
    if sum(map(len, lists)) > MOST_LINKS:
        raise TooHeavy


def refuse_many_flawed(spans: Sequence[Any]) -> None:
    """Raise TooHeavy for more spans and links than should be settled one by one in the loop."""
    if len(spans) + sum(len(span.links) for span in spans) > MOST_FLAWED:
        raise TooHeavy
