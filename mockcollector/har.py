"""Requests as they arrived in, a HAR document (HTTP Archive 1.2) out, for browsers to show.

Of an answer it has the status and, in members with an underscore, what the journal says of it: the
collector does not keep what it has sent. A body that is no text is in base64; `_encoding` says so.
"""

import base64
import importlib.metadata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from mockcollector.received import ReceivedRequest
from mockcollector.records import shown_headers
from mockcollector.rules import Encoding

SECRET = "(secret)"  # noqa: S105 - what stands for one
_MILLISECOND = 1_000_000


def to_har(requests: Iterable[ReceivedRequest], secret_names: Sequence[str] = ()) -> dict[str, Any]:
    """All of these requests, in order, refused ones, too.

    The values of the headers `secret_names`, and of those that are named like a secret, are left
    out. A body that was given up for space is empty.
    """
    version = importlib.metadata.version("mockcollector")
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "mockcollector", "version": version},
            "entries": [_entry(request, secret_names) for request in requests],
        }
    }


def _entry(request: ReceivedRequest, secret_names: Sequence[str]) -> dict[str, Any]:
    read_ns = request.read_ns or request.settled_ns or request.began_ns
    timings = {
        "send": (read_ns - request.began_ns) / _MILLISECOND,
        "wait": max(0, request.settled_ns - read_ns) / _MILLISECOND,
        "receive": 0,
    }
    started = datetime.fromtimestamp(request.received_unix_nano / 1e9, UTC)
    return {
        "startedDateTime": started.isoformat(timespec="milliseconds"),
        "time": sum(timings.values()),
        "request": _request(request, secret_names),
        "response": _response(request),
        "cache": {},
        "timings": timings,
        "connection": str(request.connection),
    }


def _request(request: ReceivedRequest, secret_names: Sequence[str]) -> dict[str, Any]:
    scheme = "https" if request.tls_version else "http"
    query = f"?{request.query}" if request.query else ""
    text, others = _body(request)
    return {
        "method": request.method,
        "url": f"{scheme}://{request.header('host') or 'localhost'}{request.path}{query}",
        "httpVersion": f"HTTP/{request.http_version}",
        "cookies": [],
        "headers": [
            {"name": name, "value": SECRET if value is None else value}
            for name, value in shown_headers(request, secret_names)
        ],
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(request.query, keep_blank_values=True)
        ],
        "headersSize": -1,
        "bodySize": request.wire_bytes,
        "postData": {"mimeType": request.header("content-type") or "", "text": text, **others},
    }


def _body(request: ReceivedRequest) -> tuple[str, dict[str, str]]:
    """The decoded body, and how it is written where that is not as text."""
    if request.encoding is Encoding.JSON:
        return request.body.decode(errors="replace"), {}
    return base64.b64encode(request.body).decode(), {"_encoding": "base64"}


def _response(request: ReceivedRequest) -> dict[str, Any]:
    status = request.status or 0  # as browsers write that there was none
    known = status in {each.value for each in HTTPStatus}
    return {
        "status": status,
        "statusText": HTTPStatus(status).phrase if known else "",
        "httpVersion": f"HTTP/{request.http_version}",
        "cookies": [],
        "headers": [],
        "content": {"size": 0, "mimeType": ""},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": -1,
        "_answer": request.answer,
        "_reason": request.reason,
    }
