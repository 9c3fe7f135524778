"""Responses and what they mean: tables."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model.records import Encoding, Signal
from relay.upstream.explain_response import Asked
from relay.upstream.outcomes import (
    Blocked,
    Delivered,
    Wait,
    breaks,
    classify,
    may_mean_the_content,
    may_mean_the_encoding,
    parse_retry_after,
    worse_of_two,
)
from relay.upstream.response import Response

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def outcome_of(
    status: int, *names: str, words: str = "", **headers: str
) -> Delivered | Wait | Blocked:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = Asked(
        who="axiom",
        endpoint="https://api.axiom.example/otlp",
        encoding=Encoding.JSON,
        header_names=names,
    )
    return classify(Response(status, fields, words.encode()), asked, NOW)


def partial(rejected: int, message: str = "") -> Delivered | Wait | Blocked:
    said = {"partialSuccess": {"rejectedSpans": rejected, "errorMessage": message}}
    response = Response(200, {"content-type": "application/json"}, json.dumps(said).encode())
    return classify(response, Asked(who="a", endpoint="", encoding=Encoding.JSON), NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_classify_takes_every_2xx_as_delivered(status: int) -> None:
    assert outcome_of(status) == Delivered(status)


@pytest.mark.parametrize(("signal", "item"), [(Signal.TRACES, "span"), (Signal.LOGS, "log record")])
def test_one_item_that_is_too_large_is_not_told_to_be_fewer(signal: Signal, item: str) -> None:
    asked = Asked(who="a", endpoint="", encoding=Encoding.JSON, signal=signal, items=1)
    alone = classify(Response(413), asked, NOW)
    several = classify(Response(413), replace(asked, items=2), NOW)

    assert isinstance(alone, Blocked)
    assert f"one {item} alone is too large for it" in alone.reason
    assert "raise the body limit there" in alone.reason
    assert "max_batch" not in alone.reason
    assert isinstance(several, Blocked)
    assert "lower max_batch_bytes or max_batch_items" in several.reason


def test_classify_keeps_count_and_words_of_a_partial_success() -> None:
    assert partial(3, "bad") == Delivered(200, 3, "bad")


def test_classify_takes_a_negative_count_of_refused_spans_as_none() -> None:
    assert partial(-1) == Delivered(200)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 505, 520, 599])
def test_classify_waits_on_what_heals_by_itself(status: int) -> None:
    outcome = outcome_of(status, retry_after="7")

    assert isinstance(outcome, Wait)
    assert (outcome.status, outcome.retry_after_seconds) == (status, 7.0)


@pytest.mark.parametrize(
    "status",
    [
        101,
        300,
        301,
        302,
        303,
        304,
        307,
        308,
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        409,
        410,
        411,
        413,
        415,
        418,
        422,
        431,
        451,
    ],
)
def test_classify_blocks_on_everything_else(status: int) -> None:
    outcome = outcome_of(status)

    assert isinstance(outcome, Blocked)
    assert outcome.status == status


@pytest.mark.parametrize(
    ("status", "names", "said", "reason"),
    [
        (
            401,
            ("Authorization", "X-Axiom-Dataset"),
            {"words": "bad token"},
            (
                "axiom answered 401 Unauthorized: “bad token” (the token is unknown or revoked); "
                "check the header Authorization, then reload"
            ),
        ),
        (
            403,
            ("x-team", "x-set"),
            {},
            (
                "axiom answered 403 Forbidden (the token is not allowed to do this); "
                "check the headers x-team, x-set, then reload"
            ),
        ),
        (
            401,
            (),
            {},
            (
                "axiom answered 401 Unauthorized (it requires credentials, and no header is set); "
                "add the header with its token, such as Authorization: Bearer TOKEN, then reload"
            ),
        ),
        (
            307,
            (),
            {"location": "https://eu.example/v1/traces"},
            (
                "axiom answered 307 Temporary Redirect "
                "(it redirects to https://eu.example/v1/traces); redirects are never followed: "
                "set the endpoint to https://eu.example/v1/traces if that is right, then reload"
            ),
        ),
        (
            404,
            (),
            {},
            (
                "axiom answered 404 Not Found (nothing is at /otlp); "
                "check the path of the endpoint: "
                "did you mean https://api.axiom.example/otlp/v1/traces? Then reload"
            ),
        ),
        (503, (), {}, "axiom answered 503 Service Unavailable; it is retried automatically"),
        (520, (), {}, "axiom answered 520; it is retried automatically"),
    ],
)
def test_classify_says_what_to_do(
    status: int, names: tuple[str, ...], said: dict[str, str], reason: str
) -> None:
    outcome = outcome_of(status, *names, **said)

    assert not isinstance(outcome, Delivered)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("signal", "endpoint", "remedy"),
    [
        (Signal.LOGS, "https://up/v1/traces", "did you mean https://up/v1/logs?"),
        (Signal.LOGS, "https://up/otlp", "did you mean https://up/otlp/v1/logs?"),
        (Signal.LOGS, "https://up/v1/logs/v1/logs", "did you mean https://up/v1/logs?"),
        (Signal.METRICS, "https://up/v1/metric", "did you mean https://up/v1/metrics?"),
        (Signal.METRICS, "https://up/v1/metrics", "what stands before /v1/metrics"),
        (Signal.TRACES, "https://up/v1/metrics", "did you mean https://up/v1/traces?"),
    ],
)
def test_classify_means_the_path_of_the_signal(signal: Signal, endpoint: str, remedy: str) -> None:
    asked = Asked(who="up", endpoint=endpoint, encoding=Encoding.JSON, signal=signal)
    outcome = classify(Response(404), asked, NOW)

    assert isinstance(outcome, Blocked)
    assert remedy in outcome.reason


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("999999999999999999", 3600.0),
        ("Mon, 23 Nov 2026 12:00:10 GMT", 10.0),
        ("Monday, 23-Nov-26 12:00:10 GMT", 10.0),
        ("Mon Nov 23 12:00:10 2026", 10.0),
        ("Mon, 23 Nov 2026 13:00:10 +0100", 10.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2037 11:00:00 GMT", 3600.0),
        ("30, 5", 5.0),
        ("Mon, 23 Nov 2026 12:00:10 GMT, 30", 10.0),
        ("30, Mon, 23 Nov 2026 12:00:10 GMT", 10.0),
        ("Mon Nov 23 12:00:50 2026, Monday, 23-Nov-26 12:00:20 GMT", 20.0),
        ("soon, 7", 7.0),
        (",", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("soon", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("1_0", None),
        ("9" * 5000, None),
        ("Mon, 99 Nov 2026 12:00:10 GMT", None),
        ("Mon, 23 Nov 99999999999 12:00:10 GMT", None),
    ],
)
def test_retry_after_is_read_in_every_form_and_rubbish_ignored(
    text: str, seconds: float | None
) -> None:
    assert parse_retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    ("said_at", "seconds"),
    [
        ("Mon, 23 Nov 2026 09:00:00 GMT", 40.0),  # three hours behind us
        ("Mon, 23 Nov 2026 09:00:40 GMT", 0.0),
        ("Mon, 23 Nov 2026 10:00:00 +0100", 40.0),
        ("yesterday", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_as_a_date_counts_from_the_date_of_the_response(
    said_at: str, seconds: float
) -> None:
    outcome = outcome_of(503, retry_after="Mon, 23 Nov 2026 09:00:40 GMT", date=said_at)

    assert isinstance(outcome, Wait)
    assert outcome.retry_after_seconds == seconds


@given(st.text(max_size=60))
def test_retry_after_is_within_the_hour_or_none_for_any_text(text: str) -> None:
    seconds = parse_retry_after(text, NOW)

    assert seconds is None or 0 <= seconds <= 3600


def test_only_what_may_be_the_size_may_come_from_one_span() -> None:
    statuses = [200, 400, 401, 408, 425, 429, 500, 501, 502, 503, 504, 507]

    assert [s for s in statuses if breaks(outcome_of(s))] == [500, 502, 504]
    assert breaks(Wait("refused the connection")) is None
    found = breaks(outcome_of(500, words="boom"))
    assert found is not None
    assert found.said == "axiom answered 500 Internal Server Error: “boom”"
    assert found.wait.reason == f"{found.said}; it is retried automatically"
    assert not may_mean_the_content(found)


def test_only_refusals_of_the_content_may_mean_the_encoding() -> None:
    statuses = [200, 308, 400, 401, 403, 404, 413, 415, 422, 429, 500, 503]

    assert [s for s in statuses if may_mean_the_encoding(outcome_of(s))] == [400, 415, 422]
    assert not may_mean_the_encoding(Blocked("an exception of ours"))


def blocked(status: int, words: str) -> Blocked:
    outcome = outcome_of(status, words=words)
    assert isinstance(outcome, Blocked)
    return outcome


@pytest.mark.parametrize("second", [400, 413, 415, 422])
def test_two_refusals_are_the_first_one_without_the_advice_that_was_tried(second: int) -> None:
    both = worse_of_two(blocked(415, "no JSON"), blocked(second, "no"))

    assert both.status == 415
    assert both.reason == (
        "axiom answered 415 Unsupported Media Type: “no JSON”; the other encoding is refused too "
        f"({second}): check endpoint and headers, then reload"
    )


def test_two_refusals_are_the_second_one_where_that_is_of_another_kind() -> None:
    second = blocked(401, "who are you")

    assert worse_of_two(blocked(415, "no JSON"), second) is second
