"""The OpenTelemetry Collector and what has its receiver inside; a profile out of each function."""
# ruff: noqa: S107 - the tokens of a mock are no secrets

from dataclasses import replace
from typing import Any

from mockcollector.profiles.loki import loki_rules
from mockcollector.profiles.parts import (
    ANSWER_UNKNOWN,
    Profile,
    basic,
    every_signal,
    only_traces,
    same_answer,
    tenant,
)
from mockcollector.profiles.prometheus import mimir_rules
from mockcollector.rules import MIB, Cause, IdRule, Rules, Wording
from mockcollector.signals import Signal


def jaeger() -> Profile:
    """No header; zero and missing ids are taken; over 20 MiB it is 400; traces only."""
    return Profile(only_traces(_collector_rules()))


def tempo(*, multitenancy: bool = False) -> Profile:
    """A whole batch refused for one missing or zero id; multitenancy: 503 without tenant."""
    rules, headers = tenant(Wording(503, "no org id"), is_needed=multitenancy)
    return Profile(
        only_traces(_tempo_rules(header_rules=rules)),
        headers,
        ("503 and the words without a tenant: they follow from its code",),
    )


def otel_collector(
    token: str = "", *, traces: bool = True, logs: bool = True, metrics: bool = True
) -> Profile:
    """No header, or with a token bearertokenauth: 401; over 20 MiB it is 400; 405, 415 in text.

    A signal without a pipeline (`logs=false`) is 404.
    """
    piped = {Signal.TRACES: traces, Signal.LOGS: logs, Signal.METRICS: metrics}
    if not any(piped.values()):
        raise ValueError("a Collector has one pipeline at least")
    refused = Wording(401, "the authenticator refused it", headers={"www-authenticate": "Bearer"})
    auth = (same_answer("Authorization", f"Bearer {token}", refused),) if token else ()
    every = every_signal(_collector_rules(header_rules=auth))
    rules = {signal: each for signal, each in every.items() if piped[signal]}
    if not token:
        return Profile(rules, unconfirmed=_READS_OTHERWISE)
    return Profile(
        rules,
        {"Authorization": f"Bearer {token}"},
        (
            "the words of a 401: here they hold no token, its own print the wrong one",
            *_READS_OTHERWISE,
        ),
    )


def grafana_cloud(token: str = "123456:glc_mock") -> Profile:
    """Paths /otlp/v1/…, Basic with instance id and token; otherwise as Tempo, Loki and Mimir."""
    rule = same_answer("Authorization", basic(token), Wording(401))
    traces = _tempo_rules(path="/otlp/v1/traces", header_rules=(rule,))
    return Profile(
        only_traces(traces)
        | {
            Signal.LOGS: loki_rules(header_rules=(rule,)),
            Signal.METRICS: mimir_rules(header_rules=(rule,)),
        },
        {"Authorization": basic(token)},
        (ANSWER_UNKNOWN, "the stack's limits: the defaults of Tempo, Loki and Mimir here"),
    )


def signoz(token: str = "mock-key") -> Profile:
    """signoz-ingestion-key; otherwise as the OpenTelemetry Collector that it is."""
    if not token:
        return Profile(every_signal(_collector_rules()))
    key = same_answer("signoz-ingestion-key", token, Wording(401))
    return Profile(
        every_signal(_collector_rules(header_rules=(key,))),
        {"signoz-ingestion-key": token},
        (ANSWER_UNKNOWN,),
    )


# What thousands of generated requests found beside a Collector 0.165.
_READS_OTHERWISE = (
    (
        "bodies that it takes, refused here: invalid UTF-8, half surrogates, a key or a member of a"
        " oneof twice, enum names, control characters in texts, null in a list, anything after the"
        " end of the JSON or of deflate, some that is no JSON, such as a lone }"
    ),
    "protobuf that it refuses, taken here: wrong wire types, groups among unknown fields",
    (
        "JSON that it refuses, taken here: 1e2, 1000.0 or null for a number, numbers under unknown"
        " keys that are out of range, null for bytes or a boolean, ids with escapes, base64 that is"
        " URL-safe, unpadded or has escapes"
    ),
    "snake_case keys in JSON: it reads them, here they are unknown",
    "JSON that it refuses, quoting a piece of it that is not UTF-8, as of protobuf: 500 there",
    "damaged compression at a wrong path or of a wrong type: 400 there, 404, 405 or 415 here",
    "a path that begins with two slashes: 307 there, 404 here",
)


def _collector_rules(**changes: Any) -> Rules:
    """An otlpreceiver of the OpenTelemetry Collector, which Jaeger, Tempo and SigNoz have inside.

    Left out: snappy and lz4, and that its JSON reader lets more pass than the specification.
    """
    rules = Rules(
        max_body_bytes=20 * MIB,
        codings=("gzip", "deflate", "zstd"),
        is_coding_case_exact=True,
        is_coding_first=True,
        ids=IdRule.SIZED,
        takes_invalid_points=True,
        empty_partial=True,
        wordings={
            Cause.PATH: Wording(404, body="404 page not found\n"),
            Cause.METHOD: Wording(405, body="405 method not allowed, supported: [POST]"),
            Cause.MEDIA_TYPE: Wording(
                415,
                body="415 unsupported media type, supported: "
                "[application/json, application/x-protobuf]",
            ),
            Cause.CODING: Wording(400, "unsupported Content-Encoding"),
            Cause.SIZE: Wording(400, "http: request body too large"),
        },
    )
    return replace(rules, **changes)


def _tempo_rules(**changes: Any) -> Rules:
    rules = _collector_rules(ids=IdRule.NONZERO, **changes)
    words = Wording(400, "trace ids must be 128 bit, span ids 64 bit: {message}")
    return replace(rules, wordings={**rules.wordings, Cause.IDS: words})
