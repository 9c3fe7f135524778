"""Scenarios of the environment: what is sent at all, URLs, headers, compression, TLS."""

import re

from mockcollector.check import clauses
from mockcollector.check.evidence import (
    Evidence,
    Finding,
    Scenario,
    failed,
    not_applicable,
    passed,
)
from mockcollector.check.judges import needs_a_request
from mockcollector.check.setups import PATH, Setup, Tls, Urls
from mockcollector.signals import TRAITS

PLAIN = Setup(name="plain")
BASE = Setup(name="base", urls=Urls.BASE)
_HEADERS = Setup(
    name="headers",
    environ={"OTEL_EXPORTER_OTLP_HEADERS": "x-check-one=a%20b%2Cc%3D1,x-check-two=2"},
)
_DECODED = {"x-check-one": "a b,c=1", "x-check-two": "2"}
_OVERRIDE = Setup(
    name="headers-of-signal",
    environ={
        "OTEL_EXPORTER_OTLP_HEADERS": "x-check-three=for-all",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-check-three=for-traces",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "x-check-three=for-logs",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "x-check-three=for-metrics",
    },
)


@needs_a_request
def _is_valid(evidence: Evidence) -> Finding:
    for each in evidence.wire.attempts:
        request = each.request
        if request.reason:
            return failed(f"refused with {request.answer}: {request.reason}")
        if request.unknown_keys:
            return failed(f"JSON keys that OTLP does not have: {', '.join(request.unknown_keys)}")
        if request.flaws:
            return failed("; ".join(request.flaws))
    count = TRAITS[evidence.signal].counted(evidence.wire.accepted)
    return passed(f"{count} in {evidence.wire.attempts[0].request.encoding}, without a fault")


@needs_a_request
def _names_itself(evidence: Evidence) -> Finding:
    value = evidence.wire.attempts[0].request.header("user-agent") or ""
    if re.search(r"(?i)otel|opentelemetry", value) and re.search(r"/v?\d", value):
        return passed(f"User-Agent: {value}")
    return failed(f"User-Agent: {value}" if value else "there is no User-Agent")


class _At:
    """Whether the requests of the signal go to a path; `prefix` with the signal's own behind it."""

    def __init__(self, path: str, *, is_whole: bool = False) -> None:
        self._path = path
        self._is_whole = is_whole

    def __call__(self, evidence: Evidence) -> Finding:
        usual = TRAITS[evidence.signal].path
        wanted = self._path if self._is_whole else self._path.rstrip("/") + usual
        wire = evidence.wire
        if any(each.request.path == wanted for each in wire.attempts):
            return passed(f"POST {wanted}")
        if wire.attempts:
            return failed(f"POST {wire.attempts[0].request.path}, not {wanted}")
        seen = sorted({each.request.path for each in wire.strays})
        return failed(f"POST {', '.join(seen)}, not {wanted}" if seen else "nothing arrived")


@needs_a_request
def _has_headers(evidence: Evidence) -> Finding:
    request = evidence.wire.attempts[0].request
    for name, wanted in _DECODED.items():
        value = request.header(name)
        if value is None:
            return failed(f"the header {name} was not sent")
        if value != wanted:
            return failed(f"{name} is {value!r}, not {wanted!r}")
    return passed("both headers came, percent-decoded")


@needs_a_request
def _has_own_header(evidence: Evidence) -> Finding:
    value = evidence.wire.attempts[0].request.header("x-check-three")
    wanted = f"for-{evidence.signal}"
    return passed(f"x-check-three: {value}") if value == wanted else failed(f"it is {value!r}")


@needs_a_request
def _is_packed(evidence: Evidence) -> Finding:
    request = evidence.wire.attempts[0].request
    coding = request.header("content-encoding") or "none"
    sizes = f"{request.wire_bytes} bytes on the wire for {request.decoded_bytes}"
    if coding != "gzip":
        return failed(f"Content-Encoding: {coding}")
    return passed(sizes) if request.accepted_count else failed(f"{request.reason}; {sizes}")


@needs_a_request
def _is_accepted(evidence: Evidence) -> Finding:
    accepted = evidence.wire.accepted
    items = TRAITS[evidence.signal].counted(accepted)
    return passed(f"{items} accepted") if accepted else failed("nothing was accepted")


def _refuses_server(evidence: Evidence) -> Finding:
    with_right_one = evidence.others.get("tls")
    if with_right_one is None or not with_right_one.attempts:
        return not_applicable("it sends nothing to a server with the right certificate, either")
    if evidence.wire.attempts:
        return failed("it sent its request all the same")
    return passed("nothing was sent")


_URLS = (
    Scenario(
        "base-url",
        "the base URL gets /v1/traces, /v1/logs, /v1/metrics",
        clauses.BASE_URL,
        BASE,
        _At(""),
    ),
    Scenario(
        "base-url-path",
        "so does a base URL with a path",
        clauses.BASE_URL,
        Setup(name="base-url-path", urls=Urls.BASE, prefix=PATH),
        _At(PATH),
    ),
    Scenario(
        "base-url-slash",
        "so does one with a slash at its end",
        clauses.BASE_URL,
        Setup(name="base-url-slash", urls=Urls.BASE, prefix=f"{PATH}/"),
        _At(PATH),
    ),
    Scenario(
        "signal-url",
        "the URL of a signal is used as it is",
        clauses.SIGNAL_URL,
        Setup(name="signal-url", urls=Urls.PATH),
        _At(PATH, is_whole=True),
    ),
    Scenario(
        "signal-url-root",
        "where it has no path, the path is /",
        clauses.SIGNAL_URL,
        Setup(name="signal-url-root", urls=Urls.ROOT),
        _At("/", is_whole=True),
    ),
)
_TLS = (
    Scenario(
        "tls",
        "a server of the given authority is trusted",
        clauses.TLS_CA,
        Setup(name="tls", tls=Tls.KNOWN),
        _is_accepted,
    ),
    Scenario(
        "tls-unknown-authority",
        "a server of another authority is not",
        clauses.TLS_VERIFY,
        Setup(name="tls-unknown-authority", tls=Tls.STRANGE, limit_seconds=15),
        _refuses_server,
    ),
    Scenario(
        "tls-wrong-host",
        "nor is one with the certificate of another host",
        clauses.TLS_VERIFY,
        Setup(name="tls-wrong-host", tls=Tls.ELSEWHERE, limit_seconds=15),
        _refuses_server,
    ),
    Scenario(
        "tls-client-certificate",
        "the client shows its certificate",
        clauses.TLS_CLIENT,
        Setup(name="tls-client-certificate", tls=Tls.CLIENT),
        _is_accepted,
    ),
)
SCENARIOS = (
    Scenario("valid", "what it sends is valid OTLP", clauses.VALID, PLAIN, _is_valid),
    Scenario("user-agent", "User-Agent names it", clauses.USER_AGENT, PLAIN, _names_itself),
    *_URLS,
    Scenario(
        "headers",
        "headers of the environment are sent, decoded",
        clauses.HEADERS,
        _HEADERS,
        _has_headers,
    ),
    Scenario(
        "headers-of-signal",
        "headers of the signal go over those of all",
        clauses.OVERRIDE,
        _OVERRIDE,
        _has_own_header,
    ),
    Scenario(
        "compression",
        "gzip can be turned on",
        clauses.COMPRESSION,
        Setup(name="compression", environ={"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}),
        _is_packed,
    ),
    *_TLS,
)
