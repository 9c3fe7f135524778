"""What the response to a test request means: taken, not taken in this encoding, or wrong and why.

Pure. The order matters: what speaks of the place (a proxy, a loop, a redirect, a page) comes
before what speaks of credentials, and that before what speaks of the body. What is not peculiar to
a test is said as delivery says it (`explain_response`).
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from relay.doctor import advice
from relay.doctor.advice import Question
from relay.doctor.report import StepFailed, StepName
from relay.otlp.signals import WIRE
from relay.upstream import paths
from relay.upstream.explain import plain_to_tls
from relay.upstream.explain_response import explain_response
from relay.upstream.outcomes import OF_THE_ENCODING
from relay.upstream.response import Response

_HTTPS_WANTED = re.compile(
    r"plain http request.*https|http request to an https|https port", re.IGNORECASE
)
_EMPTY = re.compile(
    r"\bno (?:resource_?)?spans\b|\bempty (?:body|request|payload)\b|\bno data\b|body is empty",
    re.IGNORECASE,
)
# VictoriaMetrics and VictoriaLogs say it with 400.
_NO_SUCH_PATH = re.compile(r"unsupported path requested", re.IGNORECASE)
_PROXY_SERVERS = re.compile(
    r"squid|zscaler|bluecoat|blue coat|fortigate|fortinet|mitmproxy|privoxy|tinyproxy|"
    r"web gateway|websense|sophos|palo alto|forcepoint|netskope|barracuda|proxy",
    re.IGNORECASE,
)
_PROXY_HEADERS = ("x-squid-error", "proxy-authenticate", "x-bluecoat-via", "proxy-connection")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was taken; `warning` is what should be looked at all the same.

    `is_empty_refused`: not so, but only for want of items, and all else was accepted by that.
    """

    found: str
    warning: str = ""
    is_empty_refused: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The test ends with `failed`; `meant` is a URL at the same place to try instead.

    `may_be_the_encoding`: the body was refused, and the other encoding may fare better.
    """

    failed: StepFailed
    meant: str | None = None
    may_be_the_encoding: bool = False


Verdict = Accepted | Refused


def judge(response: Response, asked: Question) -> Verdict:
    """What the response to one test request means."""
    if found := _of_the_place(response, asked):
        return found
    status = response.status
    is_odd_path = paths.is_doubled(asked.endpoint, asked.path) or not urlsplit(
        asked.endpoint
    ).path.strip("/")
    is_no_path = status in (404, 405, 410) or (
        status == 400 and _NO_SUCH_PATH.search(response.heard)
    )
    if is_no_path or (is_odd_path and status != 401 and status < 500):
        return _of_the_path(response, asked)
    if status < 300:
        return _of_success(response, asked)
    if status in (401, 402, 403):
        return Refused(advice.on_credentials(response, asked))
    if status in OF_THE_ENCODING:
        return _of_the_body(response, asked)
    return Refused(_of_the_rest(response, asked))


def _of_the_place(response: Response, asked: Question) -> Refused | None:
    """Responses of somebody else than an OTLP endpoint."""
    status = response.status
    if status in (407, 508) or 300 <= status < 400 or response.is_grpc:
        return Refused(StepFailed.of(explain_response(response, asked)))
    if status == 400 and _HTTPS_WANTED.search(response.heard):
        return Refused(StepFailed.of(plain_to_tls(asked.who)))
    if status != 401 and (sign := _proxy_sign(response, asked)):
        remedy = 'set proxy = "none"' if asked.proxy else "set proxy to the right one"
        return _wrong(
            "http",
            f"a proxy in between answered instead of {asked.who} ({sign}): {response.said}",
            f"have it let this machine through to {asked.who}, or {remedy}",
        )
    return None


def _wrong(step: StepName, wrong: str, remedy: str, meant: str | None = None) -> Refused:
    return Refused(StepFailed(step, wrong, remedy), meant)


def _proxy_sign(response: Response, asked: Question) -> str:
    """By what a proxy shows itself, in a response that the upstream would hardly give."""
    headers = response.headers
    for name in _PROXY_HEADERS:
        if name in headers:
            return name.title()
    is_odd = response.is_page or response.status == 403 or response.status >= 502
    if not is_odd:
        return ""
    for name in ("server", "via"):
        if _PROXY_SERVERS.search(headers.get(name, "")):
            return f"{name.title()}: {headers[name][:60]}"
    if response.is_page and "via" in headers:
        return f"Via: {headers['via'][:60]}"
    return f"through the proxy {asked.proxy}" if asked.proxy and response.is_page else ""


def _of_the_path(response: Response, asked: Question) -> Refused:
    path = urlsplit(asked.endpoint).path
    usual = asked.preset.endpoint_of(asked.signal.word) if asked.preset else ""
    usual_path = urlsplit(usual).path
    if path == usual_path and (known := advice.by_preset(response, asked, "http")):
        return Refused(known)
    meant = paths.meant(asked.endpoint, asked.path)
    if usual and path != usual_path and "{" not in usual_path:
        meant = paths.at(asked.endpoint, usual_path)
    fault = explain_response(response, asked)
    wrong, remedy = fault.cause, fault.remedy
    if paths.is_doubled(asked.endpoint, asked.path):
        wrong = (
            f"the path of the endpoint has {asked.path} twice, and it is used as it is "
            f"({response.said})"
        )
    elif path in ("", "/"):
        wrong = f"the endpoint has no path, and nothing is appended to it ({response.said})"
    if usual and path != usual_path:
        remedy = f"compare it with the usual {usual}"
    return _wrong("http", wrong, remedy, meant)


def _of_success(response: Response, asked: Question) -> Verdict:
    if not response.is_success:
        fault = explain_response(response, asked)
        return Refused(StepFailed.of(fault), paths.meant(asked.endpoint, asked.path))
    said = response.success
    if said.rejected and asked.has_item:
        return _wrong(
            "request",
            f"{asked.who} answered {response.status} and refused {asked.item}: "
            f"“{response.shown(said.message)}”",
            "do what it asks for, in its settings or in the headers",
        )
    warnings = []
    if not said.is_otlp:
        warnings.append(f"its response is in a format of its own: “{response.words[:100]}”")
    if said.message:
        warnings.append(f"it warns: “{response.shown(said.message)}”")
    if response.ending == "too slow":
        warnings.append("it did not end its response in time")
    return Accepted(f"{asked.item} was accepted: {response.status}", "; ".join(warnings))


def _of_the_body(response: Response, asked: Question) -> Verdict:
    """400, 415 and 422: a header that is missing, an empty request, or the encoding."""
    if not asked.has_item and response.status != 415 and _EMPTY.search(response.heard):
        return Accepted(
            f"it refuses requests without {WIRE[asked.signal].items} ({response.said})",
            is_empty_refused=True,
        )
    missing = advice.on_missing_header(response, asked)
    if missing is not None:
        return Refused(missing)
    failed = advice.by_preset(response, asked, "encoding")
    failed = failed or StepFailed.of(explain_response(response, asked))
    return Refused(failed, may_be_the_encoding=True)


def _of_the_rest(response: Response, asked: Question) -> StepFailed:
    known = advice.by_preset(response, asked, "http" if response.status >= 500 else "request")
    known = known or advice.on_tenant(response, asked)
    if known is not None:
        return known
    if response.status == 413:
        return asked.failed(
            response,
            "even this small request is too large for it or a proxy",
            "raise the body limit there (client_max_body_size in nginx), then lower "
            "max_batch_bytes if need be",
            "request",
        )
    return StepFailed.of(explain_response(response, asked))
