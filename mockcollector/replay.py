"""Recorded lines in, sent again to any OTLP/HTTP endpoint; what each was answered out."""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mockcollector.otlp_lines import read_lines, to_message
from mockcollector.rules import Encoding
from mockcollector.signals import TRAITS, Signal

TIMEOUT_SECONDS = 30.0
_ID_BYTES = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


class ReplayError(ValueError):
    """What was asked for cannot be done; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request that was sent again. `status` is None where there was no answer: see `reason`."""

    signal: Signal
    status: int | None
    reason: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether it was answered 2xx."""
        return self.status is not None and 200 <= self.status <= 299


def replay(
    lines: Iterable[str],
    url: str,
    *,
    encoding: Encoding = Encoding.PROTOBUF,
    headers: Mapping[str, str] | None = None,
    is_now: bool = False,
    has_new_ids: bool = False,
) -> Iterator[Replayed]:
    """Send each line to the base `url`, in order, one at a time.

    `is_now` moves all times by the same, so that the newest is now: backends refuse what is old.
    `has_new_ids` gives traces and spans ids of their own, the same ones wherever they were the
    same. Raises ReplayError for a URL that is none, and LinesError for a line that is not OTLP.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ReplayError(f"{url!r} is not a base URL, such as http://127.0.0.1:4318")
    recorded = list(read_lines(lines))
    change = _changes([document for _, document in recorded], is_now=is_now, new_ids=has_new_ids)
    connect = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    connection = connect[parts.scheme](parts.netloc, timeout=TIMEOUT_SECONDS)
    sent = {"Content-Type": encoding.media_type, **(headers or {})}
    try:
        for signal, document in recorded:
            changed = change(document)
            message = to_message(signal, changed)
            body = (
                json.dumps(changed).encode()
                if encoding is Encoding.JSON
                else message.SerializeToString()
            )
            path = parts.path.rstrip("/") + TRAITS[signal].path
            yield _sent(connection, signal, path, body, sent)
    finally:
        connection.close()


def _sent(
    connection: http.client.HTTPConnection,
    signal: Signal,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
) -> Replayed:
    try:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Replayed(signal, None, str(error) or type(error).__name__)
    return Replayed(signal, answer.status, answer.reason)


def _changes(documents: list[Any], *, is_now: bool, new_ids: bool) -> Callable[[Any], Any]:
    """What is done to every document: the same change wherever the same thing stands."""
    newest = max((time for each in documents for time in _times(each)), default=0)
    later = time.time_ns() - newest if is_now and newest else 0
    ids: dict[tuple[int, str], str] = {}

    def changed(value: Any, key: str = "") -> Any:
        match value:
            case dict():
                return {name: changed(item, name) for name, item in value.items()}
            case list():
                return [changed(item, key) for item in value]
        if later and key.endswith("UnixNano") and (time_unix_nano := _whole(value)):
            return str(time_unix_nano + later)
        if new_ids and key in _ID_BYTES and value:
            count = _ID_BYTES[key]
            return ids.setdefault((count, value.lower()), os.urandom(count).hex())
        return value

    return changed


def _times(value: Any, key: str = "") -> Iterator[int]:
    match value:
        case dict():
            for name, item in value.items():
                yield from _times(item, name)
        case list():
            for item in value:
                yield from _times(item, key)
        case str() | int() if key.endswith("UnixNano"):
            yield _whole(value)


def _whole(value: Any) -> int:
    """The number, or 0 where it is none: the decoder says so."""
    return int(value) if str(value).isdecimal() else 0
