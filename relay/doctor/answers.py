"""An answer to a test request goes in; what it means comes out, a sentence for wrong and cure each.

Pure. The order matters: what speaks of the place (a proxy, a loop, a redirect, a page) comes
before what speaks of credentials, and that before what speaks of the body.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from relay.config.presets import Preset
from relay.config.secrets import mask_url
from relay.doctor import advice, breakage, paths
from relay.doctor.exchange import Reply
from relay.doctor.report import StepFailed
from relay.model.records import Encoding
from relay.otlp import answers

# What may mean that the encoding is not taken.
OF_THE_ENCODING = frozenset({400, 415, 422})
_HTTPS_WANTED = re.compile(
    r"plain http request.*https|http request to an https|https port", re.IGNORECASE
)
_EMPTY = re.compile(
    r"\bno (?:resource_?)?spans\b|\bempty (?:body|request|payload)\b|\bno data\b|body is empty",
    re.IGNORECASE,
)
_PROXY_SERVERS = re.compile(
    r"squid|zscaler|bluecoat|blue coat|fortigate|fortinet|mitmproxy|privoxy|tinyproxy|"
    r"web gateway|websense|sophos|palo alto|forcepoint|netskope|barracuda|proxy",
    re.IGNORECASE,
)
_PROXY_HEADERS = ("x-squid-error", "proxy-authenticate", "x-bluecoat-via", "proxy-connection")
_GRPC = "application/grpc"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, of whom and by which way."""

    endpoint: str = field(repr=False)
    place: str
    encoding: Encoding
    headers: Mapping[str, str] = field(repr=False)
    preset: Preset | None = None
    has_span: bool = False
    proxy: str = ""

    @property
    def shown_endpoint(self) -> str:
        """The endpoint without what may be secret."""
        return mask_url(self.endpoint)


@dataclass(frozen=True, slots=True)
class Taken:
    """The request was taken; `warning` is what should be looked at all the same."""

    found: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class EmptyRefused:
    """It refuses a request without spans, and by that took everything before it."""

    found: str


@dataclass(frozen=True, slots=True)
class EncodingRefused:
    """The body was refused: it may be the encoding. `failed` says so if nothing else is it."""

    failed: StepFailed


@dataclass(frozen=True, slots=True)
class Wrong:
    """The test ends with `failed`; `meant` is a URL at the same place to try instead."""

    failed: StepFailed
    meant: str | None = None


Verdict = Taken | EmptyRefused | EncodingRefused | Wrong


def judge(reply: Reply, asked: Asked) -> Verdict:
    """What the answer to one test request means."""
    if found := _of_the_place(reply, asked):
        return found
    status = reply.status
    is_odd_path = paths.is_doubled(asked.endpoint) or not paths.path_of(asked.endpoint)
    if status in (404, 405, 410) or (is_odd_path and status != 401 and status < 500):
        return _of_the_path(reply, asked)
    if status < 300:
        return _of_success(reply, asked)
    if status in (401, 402, 403):
        return Wrong(advice.on_credentials(reply, asked.place, asked.headers, asked.preset))
    if status in OF_THE_ENCODING:
        return _of_the_body(reply, asked)
    return Wrong(_of_the_rest(reply, asked))


def _of_the_place(reply: Reply, asked: Asked) -> Wrong | None:  # noqa: PLR0911 - one a place
    """Answers of somebody else than an OTLP endpoint."""
    status = reply.status
    if status == 407:
        by = f"the proxy {asked.proxy}" if asked.proxy else "a proxy in between"
        return _wrong(
            "http",
            f"{by} wants a user and a password ({reply.said})",
            'set proxy = "http://USER:PASSWORD@HOST:PORT", the secrets by ${env:…}',
        )
    if status == 508:
        return _wrong(
            "http",
            f"the request came back to this relay: {asked.shown_endpoint} leads to it ({status})",
            "name the upstream: apps are pointed at the relay, the relay at what is behind it",
        )
    if 300 <= status < 400:
        return _of_redirect(reply, asked)
    if _GRPC in reply.content_type or "grpc-status" in reply.headers:
        return _wrong("http", f"{asked.place} {breakage.GRPC_WRONG}", breakage.GRPC_REMEDY)
    if status == 400 and _HTTPS_WANTED.search(reply.heard):
        return Wrong(breakage.plain_to_tls(_Named(asked.place)))
    if status != 401 and (sign := _proxy_sign(reply, asked)):
        remedy = 'set proxy = "none"' if asked.proxy else "set proxy to the right one"
        return _wrong(
            "http",
            f"a proxy in between answered instead of {asked.place} ({sign}): {reply.said}",
            f"have it let this machine through to {asked.place}, or {remedy}",
        )
    return None


class _Named(str):
    """A place that is only its text; the sentences want host and port too."""

    __slots__ = ()
    host = ""
    port = 0


def _wrong(step: Literal["http", "auth", "encoding", "request"], wrong: str, remedy: str) -> Wrong:
    return Wrong(StepFailed(step, wrong, remedy))


def _proxy_sign(reply: Reply, asked: Asked) -> str:
    """By what a proxy shows itself, in an answer that the upstream would hardly give."""
    headers = reply.headers
    for name in _PROXY_HEADERS:
        if name in headers:
            return name.title()
    is_odd = reply.is_page or reply.status == 403 or reply.status >= 502
    if not is_odd:
        return ""
    for name in ("server", "via"):
        if _PROXY_SERVERS.search(headers.get(name, "")):
            return f"{name.title()}: {headers[name][:60]}"
    if reply.is_page and "via" in headers:
        return f"Via: {headers['via'][:60]}"
    return f"through the proxy {asked.proxy}" if asked.proxy and reply.is_page else ""


def _of_redirect(reply: Reply, asked: Asked) -> Wrong:
    location = reply.headers.get("location", "")
    if not location:
        return _wrong(
            "http",
            f"{asked.place} answered {reply.said} and names no other place",
            "check the endpoint: redirects are never followed",
        )
    remedy = f"set the endpoint to {location} if that is right: redirects are never followed"
    if re.search(r"log[-_]?in|sign[-_]?in|/auth|sso|oauth", location, re.IGNORECASE):
        remedy = "that is a login for people: use the address for OTLP, which takes a token"
    elif location.startswith("/"):
        parts = urlsplit(asked.shown_endpoint)
        remedy = f"set the endpoint to {parts.scheme}://{asked.place}{location} if that is right"
    return _wrong("http", f"{asked.place} redirects to {location} ({reply.status})", remedy)


def _of_the_path(reply: Reply, asked: Asked) -> Wrong:
    meant = paths.meant(asked.endpoint)
    path = urlsplit(asked.endpoint).path
    did_you_mean = f"did you mean {meant}?"
    if paths.is_doubled(asked.endpoint):
        return Wrong(
            StepFailed(
                "http",
                f"the path of the endpoint has /v1/traces twice, and it is used as it is "
                f"({reply.said})",
                did_you_mean,
            ),
            meant,
        )
    if path in ("", "/"):
        wrong = f"the endpoint has no path, and nothing is appended to it ({reply.said})"
    elif reply.status == 405:
        wrong = f"{path} on {asked.place} takes no POST ({reply.said})"
    else:
        wrong = f"nothing is at {path} on {asked.place} ({reply.said})"
    if meant is None:
        usual = asked.preset.endpoint if asked.preset else ""
        did_you_mean = (
            f"compare it with the usual {usual}"
            if usual and urlsplit(usual).path != path
            else "check host, port and what stands before /v1/traces: OTLP over HTTP is mostly "
            "on port 4318"
        )
    return Wrong(StepFailed("http", wrong, did_you_mean), meant)


def _of_success(reply: Reply, asked: Asked) -> Verdict:
    what = "the test span" if asked.has_span else "an empty request"
    if reply.ending in ("too long", "too slow"):
        return _wrong(
            "http",
            f"{asked.place} says {reply.status} and never ends its answer "
            f"({len(reply.body)} bytes read)",
            "check host, port and path: that is a stream of something else than OTLP",
        )
    if reply.is_page:
        title = f" “{reply.words[:60]}”" if reply.words else ""
        return Wrong(
            StepFailed(
                "http",
                f"{asked.place} answered {reply.status} with a web page{title}: that is no OTLP "
                "endpoint",
                _for_people(asked),
            ),
            paths.meant(asked.endpoint),
        )
    if not is_otlp_success(reply):
        known = asked.preset is not None and reply.content_type == "application/json"
        if not known:
            return Wrong(
                StepFailed(
                    "http",
                    f"{asked.place} answered {reply.said}, which is not the answer of an OTLP "
                    "endpoint",
                    _for_people(asked),
                ),
                paths.meant(asked.endpoint),
            )
        return Taken(f"{what} was taken: {reply.status}", "its answer has a form of its own")
    partial = answers.read_success(reply.body, reply.headers.get("content-type", ""))
    if partial is not None and partial.rejected and asked.has_span:
        return _wrong(
            "request",
            f"{asked.place} answered {reply.status} and refused the test span: “{reply.words}”",
            "look what its words ask for, in its settings or in the headers",
        )
    warning = f"it warns: “{reply.words}”" if partial is not None and reply.words else ""
    return Taken(f"{what} was taken: {reply.status}", warning)


def _for_people(asked: Asked) -> str:
    meant = paths.meant(asked.endpoint)
    if meant is not None:
        return f"did you mean {meant}?"
    return "check the port: people's pages have another than OTLP, which is mostly on 4318"


def is_otlp_success(reply: Reply) -> bool:
    """Whether a 2xx body is an ExportTraceServiceResponse in either encoding, or empty."""
    body = reply.body.strip() if reply.content_type != "application/x-protobuf" else reply.body
    if not body:
        return True
    if body[:1] == b"{":
        try:
            document = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return isinstance(document, dict) and not (
            document.keys() - {"partialSuccess", "partial_success"}
        )
    if reply.content_type.startswith("text/"):
        return False
    try:
        message = ExportTraceServiceResponse.FromString(body)
    except DecodeError:
        return False
    message.DiscardUnknownFields()
    return message.ByteSize() == len(body)


def _of_the_body(reply: Reply, asked: Asked) -> Verdict:
    """400, 415 and 422: a header that is missing, an empty request, or the encoding."""
    if not asked.has_span and reply.status != 415 and _EMPTY.search(reply.heard):
        return EmptyRefused(f"it refuses requests without spans ({reply.said})")
    missing = advice.on_missing_header(reply, asked.place, asked.headers, asked.preset)
    if missing is not None:
        return Wrong(missing)
    word = "JSON" if asked.encoding is Encoding.JSON else "protobuf"
    other = "protobuf" if asked.encoding is Encoding.JSON else "json"
    wrong = f"{asked.place} refuses {word} ({reply.said})"
    remedy = f'set encoding = "{other}"'
    known = asked.preset.explain(reply.status, reply.heard) if asked.preset else None
    if known is not None:
        wrong, remedy = f"{asked.place} answered {reply.said}: {known.meaning}", known.remedy
    elif reply.status != 415:
        wrong = f"{asked.place} refuses the request ({reply.said})"
        remedy = "do what its words say; else compare path, headers and encoding with its pages"
    return EncodingRefused(StepFailed("encoding", wrong, remedy))


def _of_the_rest(reply: Reply, asked: Asked) -> StepFailed:  # noqa: PLR0911 - one a status
    status = reply.status
    answered = f"{asked.place} answered {reply.said}"
    known = asked.preset.explain(status, reply.heard) if asked.preset else None
    if known is not None:
        step: Literal["http", "request"] = "http" if status >= 500 else "request"
        return StepFailed(step, f"{answered}: {known.meaning}", known.remedy)
    hinted = advice.on_tenant(reply, asked.place, asked.headers)
    if hinted is not None:
        return hinted
    if status == 413:
        return StepFailed(
            "request",
            f"{answered}: even this small request is too large for it or for a proxy before it",
            "raise the body limit there (client_max_body_size in nginx), then lower "
            "max_batch_bytes if need be",
        )
    if status == 429:
        after = reply.headers.get("retry-after", "")
        told = f" after {after[:30]} s" if after.isdigit() else " later"
        return StepFailed(
            "request",
            f"{answered}: its rate limit or quota is used up",
            f"try again{told}, or look at the account's quota",
        )
    if status in (502, 504):
        return StepFailed(
            "http",
            f"{answered}: a gateway answers, and does not reach what is behind it",
            "look at the gateway and the backend behind it",
        )
    if status == 503:
        return StepFailed(
            "http",
            f"{answered}: it is there, and takes nothing now",
            "wait until it has started or has room, then test again",
        )
    if status >= 500:
        return StepFailed(
            "http",
            f"{answered}: it failed at a correct request",
            "look into its log, then test again",
        )
    return StepFailed("http", answered, "check the endpoint: it may not be an OTLP/HTTP traces URL")
