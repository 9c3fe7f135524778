"""Scenarios of answers: statuses, Retry-After, partial success, bodies that are not as usual."""

import gzip
from datetime import timedelta

from mockcollector.check import clauses
from mockcollector.check.evidence import Evidence, Finding, Scenario, failed, passed
from mockcollector.check.judges import (
    backs_off,
    if_offered,
    is_not_retried,
    is_retried,
    sends_the_same,
    tells,
    tells_of_failure,
    waits,
)
from mockcollector.check.setups import Setup
from mockcollector.script import ok, partial, refuse

MIB = 1024 * 1024
MESSAGE = "mockcollector-rejects-{signal}"
_WAIT_SECONDS = 4
_DATE_SECONDS = 5  # whole seconds on the wire: it is asked to wait for 4 to 5 s
_TRANSIENT = {429: "Too Many Requests", 502: "Bad Gateway", 503: "Unavailable", 504: "Timeout"}
_FINAL = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
}
_PARTIAL = Setup(name="partial", script=(partial(1, MESSAGE),))
_BACKOFF = Setup(name="backoff", script=(refuse(503, times=3),), limit_seconds=45)


def _redirected(evidence: Evidence) -> Finding | None:
    wire = evidence.wire
    if any(each.request.accepted_count for each in wire.attempts):
        return passed("followed, and accepted there")
    methods = [each.request.method for each in wire.attempts[1:]]
    if "GET" in methods and wire.exit_code == evidence.plain.exit_code and not wire.output:
        return failed("followed with GET, which carries no data, and nothing was told")
    return None


def _retryable() -> list[Scenario]:
    return [
        Scenario(
            f"retry-{status}",
            f"{status} {phrase} is retried",
            clauses.RETRY_STATUS,
            Setup(name=f"retry-{status}", script=(refuse(status),)),
            is_retried,
        )
        for status, phrase in _TRANSIENT.items()
    ]


def _final() -> list[Scenario]:
    return [
        Scenario(
            f"final-{status}",
            f"{status} {phrase} is final",
            clauses.FINAL_STATUS,
            Setup(name=f"final-{status}", script=(refuse(status),)),
            is_not_retried,
        )
        for status, phrase in _FINAL.items()
    ]


def _retry_more() -> list[Scenario]:
    page = refuse(503, content_type="text/html", body="<h1>Service Unavailable</h1>")
    seconds = refuse(429, retry_after=str(_WAIT_SECONDS))
    date = refuse(503, retry_after=timedelta(seconds=_DATE_SECONDS))
    return [
        Scenario(
            "retry-503-html",
            "503 with a page of a proxy is retried",
            clauses.RETRY_STATUS,
            Setup(name="retry-503-html", script=(page,)),
            is_retried,
        ),
        Scenario(
            "retry-same-data",
            "what is retried has the ids that it had",
            clauses.SAME_DATA,
            Setup(name="retry-503", script=(refuse(503),)),
            sends_the_same,
        ),
        Scenario(
            "backoff",
            "retries come at growing intervals",
            clauses.BACKOFF,
            _BACKOFF,
            backs_off,
        ),
        Scenario(
            "retry-after-seconds",
            "Retry-After in seconds is waited for",
            clauses.RETRY_AFTER,
            Setup(name="retry-after-seconds", script=(seconds,)),
            waits(_WAIT_SECONDS),
        ),
        Scenario(
            "retry-after-date",
            "Retry-After as a date is waited for",
            clauses.RETRY_AFTER,
            Setup(name="retry-after-date", script=(date,)),
            waits(_DATE_SECONDS - 1),
        ),
    ]


def _partial() -> list[Scenario]:
    return [
        Scenario(
            "partial-success",
            "a partial success is not retried",
            clauses.PARTIAL,
            _PARTIAL,
            is_not_retried,
        ),
        Scenario(
            "partial-success-told",
            "the message of a partial success is told",
            clauses.PARTIAL_SAID,
            _PARTIAL,
            tells(MESSAGE),
        ),
        Scenario(
            "warning",
            "a partial success with nothing rejected is not retried",
            clauses.PARTIAL,
            Setup(name="warning", script=(partial(0, MESSAGE),)),
            is_not_retried,
        ),
    ]


def _odd_bodies() -> list[Scenario]:
    packed = {"content-encoding": "gzip"}
    large = refuse(503, body=b"\0" * (6 * MIB))
    bomb = refuse(503, body=gzip.compress(b"\0" * (64 * MIB), 9), headers=packed)
    return [
        Scenario(
            "redirect",
            "302 is followed, or told as a failure",
            clauses.REDIRECT,
            Setup(name="redirect", script=(refuse(302, headers={"location": "/elsewhere"}),)),
            tells_of_failure(_redirected),
        ),
        Scenario(
            "success-html",
            "200 with a body of another type is success",
            clauses.SUCCESS,
            Setup(name="success-html", script=(ok(content_type="text/html", body="<p>ok</p>"),)),
            is_not_retried,
        ),
        Scenario(
            "response-gzip",
            "a response in gzip is understood",
            clauses.RESPONSE_GZIP,
            Setup(name="response-gzip", script=(ok(body=gzip.compress(b""), headers=packed),)),
            if_offered("accept-encoding", "gzip", is_not_retried),
        ),
        Scenario(
            "response-too-large",
            "503 with 6 MiB is not retried",
            clauses.RESPONSE_LIMIT,
            Setup(name="response-too-large", script=(large,)),
            is_not_retried,
        ),
        Scenario(
            "response-bomb",
            "503 with 64 MiB in 64 KiB of gzip is not retried",
            clauses.RESPONSE_LIMIT,
            Setup(name="response-bomb", script=(bomb,)),
            if_offered("accept-encoding", "gzip", is_not_retried),
        ),
    ]


SCENARIOS = (*_retryable(), *_retry_more(), *_final(), *_partial(), *_odd_bodies())
