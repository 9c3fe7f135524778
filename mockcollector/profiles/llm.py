"""Vendors for calls of language models; a profile out of each function."""
# ruff: noqa: S107 - the tokens of a mock are no secrets

from mockcollector.profiles.parts import (
    PROTOBUF_ONLY,
    Profile,
    basic,
    detail,
    error,
    only_traces,
    same_answer,
)
from mockcollector.rules import (
    Cause,
    HeaderRule,
    IdRule,
    Payload,
    Refused,
    Rules,
    TypeMatch,
    Wording,
)
from mockcollector.signals import TRAITS, Signal


def langfuse(token: str = "pk-lf-mock:sk-lf-mock") -> Profile:
    """Basic with public and secret key; gzip only; a whole batch refused for one id missing."""
    refused = Wording(401, body={"message": "Invalid credentials"})
    rules = Rules(
        path="/api/public/otel/v1/traces",
        header_rules=(same_answer("Authorization", basic(token), refused),),
        type_match=TypeMatch.CONTAINS,
        codings=("gzip",),
        ids=IdRule.PRESENT,
        wordings={
            Cause.MEDIA_TYPE: error(400, "Invalid content type"),
            Cause.CODING: error(400, "Failed to parse OTel Trace"),
            Cause.BODY: error(400, "Failed to parse OTel Trace"),
            Cause.IDS: error(400, "Invalid span: trace id and span id are required"),
        },
    )
    discards = Wording(200, "metrics are thrown away here", body={})
    closed = Rules(path="/api/public/otel/v1/metrics", closed=discards)
    return Profile(
        only_traces(rules) | {Signal.METRICS: closed},
        {"Authorization": basic(token)},
        (
            "the words of the refusal of ids",
            "ids in JSON that are no hexadecimal: it takes them, here they are 400",
            "a limit of the body: it only warns over 16 MB, here 64 MiB",
        ),
    )


def phoenix(token: str = "mock-key") -> Profile:
    """Protobuf only, by the exact content type, else 415; 401 Invalid token; 422 for bad bodies."""
    refused = Wording(401, body={"detail": "Invalid token"})
    rules = Rules(
        header_rules=(same_answer("Authorization", f"Bearer {token}", refused),) if token else (),
        media_types=PROTOBUF_ONLY,
        type_match=TypeMatch.EXACT,
        codings=("gzip", "deflate"),
        is_coding_case_exact=True,
        ids=IdRule.ANY,
        wordings={
            Cause.MEDIA_TYPE: Wording(415, body="Unsupported content type"),
            Cause.CODING: Wording(415, body="Unsupported content encoding"),
            Cause.BODY: Wording(422, body="Request body is invalid"),
        },
    )
    no_method = Wording(405, body={"detail": "Method Not Allowed"})
    closed = {
        signal: Rules(path=TRAITS[signal].path, closed=no_method)
        for signal in (Signal.LOGS, Signal.METRICS)
    }
    return Profile(
        only_traces(rules) | closed,
        {"Authorization": f"Bearer {token}"} if token else {},
        (
            "the words of the 405 for logs and metrics",
            "what it makes of ids that are missing or zero: here they are taken",
            "the answer to damaged compression: 422 here",
        ),
    )


def mlflow(token: str = "", experiment: str = "") -> Profile:
    """x-mlflow-experiment-id, else 422; JSON is 400; 400 no spans found for an empty request."""
    missing = {"type": "missing", "loc": ["header", "x-mlflow-experiment-id"]}
    no_experiment = Wording(422, body={"detail": [missing | {"msg": "Field required"}]})
    wrong = Wording(422, body={"detail": "Failed to log OpenTelemetry spans: no such experiment"})
    rules = [HeaderRule("x-mlflow-experiment-id", experiment or None, no_experiment, wrong)]
    headers = {"x-mlflow-experiment-id": experiment or "0"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
        rules.append(same_answer("Authorization", f"Bearer {token}", detail(401, "Unauthorized")))
    made = Rules(
        header_rules=tuple(rules),
        media_types=PROTOBUF_ONLY,
        type_match=TypeMatch.EXACT,
        codings=("gzip", "deflate"),
        ids=IdRule.NONZERO,
        checks=(_check_not_empty,),
        wordings={
            Cause.MEDIA_TYPE: detail(400, "Invalid Content-Type. Expected: application/x-protobuf"),
            Cause.CODING: detail(400, "Unsupported Content-Encoding"),
            Cause.BODY: detail(400, "Invalid OpenTelemetry protobuf format"),
            Cause.IDS: detail(422, "Cannot convert OpenTelemetry span to MLflow span"),
        },
    )
    return Profile(
        only_traces(made),
        headers,
        (
            "which spans it cannot convert (422): here those with a missing or zero id",
            "the answer to an unknown Content-Encoding: 400 here",
            "how a deployment with a login refuses: 401 here",
        ),
    )


def _check_not_empty(payload: Payload) -> None:
    """MLflow takes a request without any resource_spans for a broken one."""
    if not payload.message.ListFields():
        words = "Invalid OpenTelemetry protobuf format - no spans found"
        raise Refused(400, words, cause=Cause.CONTENT, body={"detail": words})
