"""Vendors for traces of every kind, by name; a profile out of each function."""
# ruff: noqa: S107 - the tokens of a mock are no secrets

import json
from dataclasses import replace

from mockcollector.profiles.parts import (
    ANSWER_UNKNOWN,
    BASE_UNKNOWN,
    JSON_UNKNOWN,
    PROTOBUF_ONLY,
    Profile,
    basic,
    every_signal,
    same_answer,
)
from mockcollector.rules import (
    MIB,
    Cause,
    Encoding,
    HeaderRule,
    IdRule,
    Payload,
    Refused,
    Rules,
    TypeMatch,
    Wording,
)
from mockcollector.signals import Signal


def axiom(token: str = "xaat-mock", dataset: str = "") -> Profile:
    """Bearer token and X-Axiom-Dataset; 403 in its own JSON; at most 10,000 spans a request.

    Metrics have X-Axiom-Metrics-Dataset instead, protobuf only, 4 MiB unpacked.
    """
    forbidden = Wording(403, body={"code": 403, "message": "Forbidden"})

    def header_rules(header: str) -> tuple[HeaderRule, ...]:
        no_dataset = Wording(400, body={"code": 400, "message": f"missing {header}"})
        return (
            HeaderRule("Authorization", f"Bearer {token}", forbidden, forbidden),
            HeaderRule(header, dataset or None, no_dataset, forbidden),
        )

    def check_count(payload: Payload) -> None:
        if payload.count > 10_000:
            raise Refused(413, f"{payload.count} items are more than 10000", cause=Cause.CONTENT)

    return Profile(
        every_signal(
            Rules(header_rules=header_rules("X-Axiom-Dataset"), checks=(check_count,)),
            header_rules=header_rules("X-Axiom-Metrics-Dataset"),
            media_types=PROTOBUF_ONLY,
            max_body_bytes=4 * MIB,
            checks=(),
        ),
        {"Authorization": f"Bearer {token}", "X-Axiom-Dataset": dataset or "traces"},
        (
            "the answer to a missing X-Axiom-Dataset or X-Axiom-Metrics-Dataset: 400 here",
            "the answer to metrics in JSON: 415 here",
            "the answer to more than 10,000 spans or log records: 413 here",
            "that names, keys and values of metrics that are too long are only rejected: not here",
            BASE_UNKNOWN,
        ),
        other_headers={
            Signal.METRICS: {
                "Authorization": f"Bearer {token}",
                "X-Axiom-Metrics-Dataset": dataset or "metrics",
            }
        },
    )


def honeycomb(token: str = "hcaik-mock", dataset: str = "") -> Profile:
    """x-honeycomb-team, with a Classic key x-honeycomb-dataset, too; JSON times as strings only."""
    no_key = Wording(401, body={"message": "missing 'x-honeycomb-team' header"})
    unknown = Wording(401, body={"error": "unknown API key - check your credentials"})
    no_dataset = Wording(401, body={"message": "missing 'x-honeycomb-dataset' header"})
    header_rules = [HeaderRule("x-honeycomb-team", token, no_key, unknown)]
    headers = {"x-honeycomb-team": token}
    if dataset or _is_classic(token):
        headers["x-honeycomb-dataset"] = dataset or "traces"
        header_rules.append(
            HeaderRule("x-honeycomb-dataset", dataset or None, no_dataset, no_dataset)
        )
    types = {"application/json": Encoding.JSON} | dict.fromkeys(
        ("application/protobuf", "application/x-protobuf"), Encoding.PROTOBUF
    )
    rules = Rules(
        max_body_bytes=20 * MIB,
        header_rules=tuple(header_rules),
        media_types=types,
        type_match=TypeMatch.EXACT,
        codings=("gzip", "zstd"),
        ids=IdRule.ANY,
        checks=(_check_string_times,),
        wordings={
            Cause.MEDIA_TYPE: Wording(415, body={"message": "unsupported content-type"}),
            Cause.BODY: Wording(400, body={"message": "failed to parse OTLP request body"}),
        },
    )
    every = every_signal(rules, checks=())
    return Profile(
        every | {Signal.LOGS: replace(every[Signal.LOGS], checks=())},
        headers,
        (
            "that times as numbers are refused (it follows from its code), and in which words",
            "the status of a body over 20 MiB: 413 here",
            "the status of an unknown Content-Encoding: 415 here",
        ),
    )


def lightstep(token: str = "mock-token") -> Profile:
    """lightstep-access-token; /traces/otlp/v0.9 in both encodings, /v1/traces in protobuf only."""
    login = (same_answer("lightstep-access-token", token, Wording(401)),)
    return Profile(
        {
            Signal.TRACES: Rules(
                path="/traces/otlp/v0.9", protobuf_paths=("/v1/traces",), header_rules=login
            ),
            Signal.METRICS: Rules(path="/metrics/otlp/v0.9", header_rules=login),
        },
        {"lightstep-access-token": token},
        (ANSWER_UNKNOWN, "that /traces/otlp/v0.9 takes both encodings", BASE_UNKNOWN),
    )


def datadog(token: str = "mock-key", *, takes_json: bool = True) -> Profile:
    """dd-api-key; 403; 413 over 3.2 MB; success is 202."""
    return Profile(
        every_signal(
            Rules(
                max_body_bytes=3_200_000,
                header_rules=(same_answer("dd-api-key", token, Wording(403)),),
                media_types=Rules().media_types if takes_json else PROTOBUF_ONLY,
                success_status=202,
            )
        ),
        {"dd-api-key": token},
        (
            "whether it takes JSON: newer pages say so, older ones not (option takes_json)",
            "how it refuses cumulative metrics: here it takes them",
            "that it refuses metrics over 512 KiB packed with 413: here over 3.2 MB",
            "whether the 3.2 MB are counted before or after decompression: both here",
            BASE_UNKNOWN,
        ),
    )


def newrelic(token: str = "mock-license") -> Profile:
    """api-key; 403; 413 over 1 MB (10^6 bytes)."""
    return Profile(
        every_signal(
            Rules(
                max_body_bytes=1_000_000,
                header_rules=(same_answer("api-key", token, Wording(403)),),
            )
        ),
        {"api-key": token},
        (
            "how it refuses a token that is missing or wrong: 403 here",
            "the status of a body over 1 MB (413 here), and whether it counts the packed bytes",
            "whether success is 200 or 202: 200 here",
            JSON_UNKNOWN,
            BASE_UNKNOWN,
        ),
    )


def dash0(token: str = "auth_mock") -> Profile:
    """Bearer token; Dash0-Dataset may be there."""
    return Profile(
        every_signal(
            Rules(header_rules=(same_answer("Authorization", f"Bearer {token}", Wording(401)),))
        ),
        {"Authorization": f"Bearer {token}", "Dash0-Dataset": "default"},
        (
            ANSWER_UNKNOWN,
            JSON_UNKNOWN,
            "that Dash0-Dataset may be left out",
            "how it refuses what is older than 6 hours or has over 32 attributes: here it takes it",
            BASE_UNKNOWN,
        ),
    )


def uptrace(token: str = "mock-token") -> Profile:
    """uptrace-dsn with the token in a URL."""
    dsn = f"https://{token}@api.uptrace.dev"
    return Profile(
        every_signal(Rules(header_rules=(same_answer("uptrace-dsn", dsn, Wording(401)),))),
        {"uptrace-dsn": dsn},
        (ANSWER_UNKNOWN, JSON_UNKNOWN, BASE_UNKNOWN),
    )


def openobserve(token: str = "root@example.com:mock", organization: str = "default") -> Profile:
    """Paths /api/ORG/v1/…, Basic; the stream of logs by a header stream-name that may be there."""
    rules = Rules(
        path=f"/api/{organization}/v1/traces",
        header_rules=(same_answer("Authorization", basic(token), Wording(401)),),
    )
    return Profile(
        every_signal(rules),
        {"Authorization": basic(token)},
        (ANSWER_UNKNOWN, JSON_UNKNOWN, BASE_UNKNOWN),
    )


def _is_classic(key: str) -> bool:
    """Whether a Honeycomb key is a Classic one: 32 hex digits, or 64 characters like hcaic_…."""
    is_hex = all(c in "0123456789abcdef" for c in key)
    return (len(key) == 32 and is_hex) or (
        len(key) == 64 and key.startswith("hc") and key[3:6] == "ic_"
    )


def _check_string_times(payload: Payload) -> None:
    """Honeycomb reads a span's times in JSON as strings and nothing else."""
    if payload.encoding is not Encoding.JSON or not payload.count:
        return
    for resource in json.loads(payload.body).get("resourceSpans") or ():
        for scope in resource.get("scopeSpans") or ():
            for span in scope.get("spans") or ():
                for key in ("startTimeUnixNano", "endTimeUnixNano"):
                    if not isinstance(span.get(key, ""), str):
                        words = f'{key} is no string: strconv.ParseUint: parsing "": invalid syntax'
                        raise Refused(400, words, cause=Cause.CONTENT, body={"message": words})
