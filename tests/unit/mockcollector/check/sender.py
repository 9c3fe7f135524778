"""A small exporter that keeps every rule of the card, but for the one that $BREAK names.

It sends JSON by the standard library alone, as the OTEL_* variables say: two spans in a trace, and
with LOGS or METRICS set to 1 two log records or a data point.
"""

import gzip
import http.client
import json
import os
import random
import ssl
import sys
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

BROKEN = os.environ.get("BREAK", "")
LIMIT_BYTES = 4 * 1024 * 1024
PAUSE_SECONDS = 0.1
TRIES = 7
TRANSIENT = {429, 502, 503, 504}
NANOSECONDS = 10**9


class TooLarge(Exception):
    """The response is over the limit."""


def setting(name: str, signal: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}")
    is_ignored = BROKEN == "headers-of-signal" and name == "HEADERS"
    if own is not None and not is_ignored:
        return own
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def url_of(signal: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    usual = f"/v1/{signal}"
    if own is not None:
        is_root = not urlsplit(own).path
        if BROKEN == "signal-url" and not own.endswith(usual):
            return own + usual
        if is_root:
            return own + (usual if BROKEN == "signal-url-root" else "/")
        return own
    base = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    if BROKEN == "base-url":
        return f"{base}/v2/{signal}"
    if BROKEN == "base-url-path":
        parts = urlsplit(base)
        return f"{parts.scheme}://{parts.netloc}{usual}"
    return base + usual if BROKEN == "base-url-slash" else base.rstrip("/") + usual


def headers_of(signal: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    if BROKEN != "user-agent":
        headers["User-Agent"] = "OTel-OTLP-Exporter-Check/1.0"
    else:
        headers["User-Agent"] = "something"
    for pair in filter(None, setting("HEADERS", signal).split(",")):
        name, _, value = pair.partition("=")
        decoded = value if BROKEN == "headers" else unquote(value)
        headers[name.strip()] = decoded.encode().decode("latin-1")
    return headers


def context_of(signal: str) -> ssl.SSLContext:
    file = setting("CERTIFICATE", signal)
    context = ssl.create_default_context(cafile=None if BROKEN == "tls" else file or None)
    if BROKEN in {"tls-wrong-host", "tls-unknown-authority"}:
        context.check_hostname = False
    if BROKEN == "tls-unknown-authority":
        context.verify_mode = ssl.CERT_NONE
    cert, key = setting("CLIENT_CERTIFICATE", signal), setting("CLIENT_KEY", signal)
    if cert and BROKEN != "tls-client-certificate":
        context.load_cert_chain(cert, key)
    return context


def timeout_seconds(signal: str) -> float:
    if BROKEN == "slow-response":
        return 1.0
    text = setting("TIMEOUT", signal)
    return float(text) / (1 if BROKEN == "timeout" else 1000) if text else 10.0


class Client:
    """The exporter of one signal, with its connection."""

    def __init__(self, signal: str) -> None:
        self.signal = signal
        self.url = urlsplit(url_of(signal))
        self.connection: http.client.HTTPConnection | None = None

    def connect(self) -> http.client.HTTPConnection:
        host, timeout = self.url.netloc, timeout_seconds(self.signal)
        if self.url.scheme == "https":
            context = context_of(self.signal)
            return http.client.HTTPSConnection(host, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, timeout=timeout)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def exchange(self, document: dict[str, Any]) -> tuple[int, http.client.HTTPMessage, bytes]:
        body = json.dumps(document).encode()
        headers = headers_of(self.signal)
        if setting("COMPRESSION", self.signal) == "gzip" and BROKEN != "compression":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        self.connection = self.connection or self.connect()
        deadline = time.monotonic() + timeout_seconds(self.signal)
        self.connection.request("POST", self.url.path, body, headers)
        response = self.connection.getresponse()
        content = read(response, deadline, self.connection)
        if response.will_close or BROKEN == "keep-alive":
            self.close()
        return response.status, response.headers, content

    def export(self, make: Any) -> None:
        """Send what `make` makes, until it is answered for good."""
        document = make()
        # Long enough where all are alike that none is longer for what else the machine does.
        pause = 20 * PAUSE_SECONDS if BROKEN == "backoff" else PAUSE_SECONDS
        for _ in range(TRIES):
            wait = self.attempt(document)
            if wait is None:
                return
            time.sleep(wait or pause * random.uniform(0.95, 1.05))
            pause *= 1 if BROKEN == "backoff" else 2
            if BROKEN == "retry-same-data":
                document = make()
        say("gave up")

    def attempt(self, document: dict[str, Any]) -> float | None:
        """How long to wait before the next attempt, 0 for as long as usual; None: it is over."""
        try:
            status, headers, content = self.exchange(document)
        except ssl.SSLError as error:
            self.close()
            say(f"TLS: {error}")
            return None
        except TooLarge:
            self.close()
            say("the response is too large")
            return None
        except TimeoutError:
            self.close()
            say("timed out")
            return 0 if BROKEN == "slow-response" else None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return self.after_break(error)
        return self.after_answer(status, headers, content)

    def after_break(self, error: Exception) -> float | None:
        kind = {
            "ConnectionRefusedError": "late-server",
            "RemoteDisconnected": "cut",
            "ConnectionResetError": "reset",
            "IncompleteRead": "cut-response",
        }.get(type(error).__name__, "cut")
        if BROKEN == "stale-connection" and kind in {"cut", "reset"}:
            kind = BROKEN
        return None if kind == BROKEN else 0

    def after_answer(
        self, status: int, headers: http.client.HTTPMessage, content: bytes
    ) -> float | None:
        if status == 200:
            return self.after_success(headers, content)
        is_page = headers.get("content-type") == "text/html"
        is_final = status not in TRANSIENT or f"retry-{status}" == BROKEN
        if BROKEN == "retry-503-html" and is_page:
            is_final = True
        if f"final-{status}" == BROKEN:
            is_final = False
        if is_final:
            if not (BROKEN == "redirect" and status == 302):
                say(f"refused: {status}")
            return None
        return wait_of(headers.get("retry-after"))

    def after_success(self, headers: http.client.HTTPMessage, content: bytes) -> float | None:
        if BROKEN == "success-html" and headers.get("content-type") == "text/html":
            return 0
        if BROKEN == "response-gzip" and headers.get("content-encoding") == "gzip":
            return 0
        try:
            answer = json.loads(content) if content else {}
        except ValueError:
            return None
        message = answer.get("partialSuccess", {}).get("errorMessage", "")
        rejected = any(name.startswith("rejected") for name in answer.get("partialSuccess", {}))
        if message and BROKEN != "partial-success-told":
            say(message)
        is_retried = ("partial-success" if rejected else "warning") == BROKEN
        return 0 if message and is_retried else None


def read(
    response: http.client.HTTPResponse, deadline: float, connection: http.client.HTTPConnection
) -> bytes:
    """The body, unpacked, within the limit and the deadline."""
    has_limit = BROKEN not in {"response-too-large", "response-bomb"}
    packed = response.headers.get("content-encoding") == "gzip" and BROKEN != "response-gzip"
    unpack = zlib.decompressobj(wbits=31)
    content = b""
    while True:
        left = deadline - time.monotonic()
        if BROKEN != "endless-response":
            if left <= 0:
                raise TimeoutError
            if connection.sock is not None:
                connection.sock.settimeout(left)
        piece = response.read1(65536)
        if not piece:
            if response.length:
                raise http.client.IncompleteRead(content)
            response.close()  # for the next request, which http.client refuses otherwise
            return content
        if not (BROKEN == "endless-response" and content):
            content += (
                unpack.decompress(piece, LIMIT_BYTES + 1 if has_limit else 0) if packed else piece
            )
        if has_limit and len(content) > LIMIT_BYTES:
            raise TooLarge


def wait_of(text: str | None) -> float:
    """Seconds that Retry-After asks for; 0 where it asks for nothing."""
    if text is None:
        return 0
    if text.isdecimal():
        return 0 if BROKEN == "retry-after-seconds" else float(text)
    if BROKEN == "retry-after-date":
        return 0
    return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())


def say(text: str) -> None:
    if BROKEN == "cut-response" and text == "gave up":
        return
    print(text, file=sys.stderr)


def attributes(**values: str) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def spans(count: int) -> dict[str, Any]:
    now = time.time_ns()
    made = [
        {
            "traceId": os.urandom(16).hex(),
            "spanId": os.urandom(8).hex(),
            "name": f"step {number}",
            "kind": 1,
            "startTimeUnixNano": str(now - NANOSECONDS),
            "endTimeUnixNano": str(now),
        }
        for number in range(count)
    ]
    name = "scope_spans" if BROKEN == "valid" else "scopeSpans"
    resource = {"attributes": attributes(**{"service.name": "shop"})}
    return {"resourceSpans": [{"resource": resource, name: [{"spans": made}]}]}


def log_records(count: int) -> dict[str, Any]:
    made = [
        {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": f"line {number}"}}
        for number in range(count)
    ]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": made}]}]}


def data_points(count: int) -> dict[str, Any]:
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "3"}
    metric = {"name": "orders", "gauge": {"dataPoints": [point]}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def main() -> None:
    makers: dict[str, Callable[[int], dict[str, Any]]] = {"traces": spans}
    if os.environ.get("LOGS"):
        makers["logs"] = log_records
    if os.environ.get("METRICS"):
        makers["metrics"] = data_points
    for signal, make in makers.items():
        client = Client(signal)
        is_single = os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") == "1"
        batches = [1, 1] if is_single and signal != "metrics" else [2]
        if BROKEN == "shutdown" and is_single:
            batches.pop()
        for count in batches:
            client.export(lambda make=make, count=count: make(count))
        client.close()


main()
