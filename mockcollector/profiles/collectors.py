"""The OpenTelemetry Collector and what has its receiver inside; a profile out of each function."""
# ruff: noqa: S107 - the tokens of a mock are no secrets

from dataclasses import replace
from typing import Any

from mockcollector.profiles.parts import ANSWER_UNKNOWN, Profile, basic, same_answer
from mockcollector.rules import MIB, Cause, HeaderRule, IdRule, Rules, Wording


def jaeger() -> Profile:
    """No header; zero and missing ids are taken; over 20 MiB it is 400."""
    return Profile(_collector_rules())


def tempo(*, multitenancy: bool = False) -> Profile:
    """A whole batch refused for one missing or zero id; multitenancy: 503 without tenant."""
    no_tenant = Wording(503, "no org id")
    tenant = (HeaderRule("X-Scope-OrgID", None, no_tenant, no_tenant),) if multitenancy else ()
    return Profile(
        _tempo_rules(header_rules=tenant),
        {"X-Scope-OrgID": "tenant"} if multitenancy else {},
        ("503 and the words without a tenant: they follow from its code",),
    )


def otel_collector(token: str = "") -> Profile:
    """No header, or with a token bearertokenauth: 401; over 20 MiB it is 400; 405, 415 in text."""
    refused = Wording(401, "the authenticator refused it", headers={"www-authenticate": "Bearer"})
    if not token:
        return Profile(_collector_rules())
    return Profile(
        _collector_rules(header_rules=(same_answer("Authorization", f"Bearer {token}", refused),)),
        {"Authorization": f"Bearer {token}"},
        ("the words of a 401: here they hold no token, its own print the wrong one",),
    )


def grafana_cloud(token: str = "123456:glc_mock") -> Profile:
    """Path /otlp/v1/traces, Basic with instance id and token; otherwise as Tempo."""
    rule = same_answer("Authorization", basic(token), Wording(401))
    return Profile(
        _tempo_rules(path="/otlp/v1/traces", header_rules=(rule,)),
        {"Authorization": basic(token)},
        (ANSWER_UNKNOWN, "the stack's limits: Tempo's defaults here"),
    )


def signoz(token: str = "mock-key") -> Profile:
    """signoz-ingestion-key; otherwise as the OpenTelemetry Collector that it is."""
    if not token:
        return Profile(_collector_rules())
    return Profile(
        _collector_rules(header_rules=(same_answer("signoz-ingestion-key", token, Wording(401)),)),
        {"signoz-ingestion-key": token},
        (ANSWER_UNKNOWN,),
    )


def _collector_rules(**changes: Any) -> Rules:
    """An otlpreceiver of the OpenTelemetry Collector, which Jaeger, Tempo and SigNoz have inside.

    Left out: snappy and lz4, and that its JSON reader lets more pass than the specification.
    """
    rules = Rules(
        max_body_bytes=20 * MIB,
        is_coding_case_exact=True,
        ids=IdRule.SIZED,
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
