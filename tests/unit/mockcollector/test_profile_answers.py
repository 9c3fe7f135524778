"""What each vendor's profile takes and refuses, over real sockets, with its status and body."""

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]

from mockcollector import MockCollector, partial, profiles
from mockcollector.profiles import PROFILES, ProfileError
from mockcollector.signals import Signal
from tests.unit.mockcollector.exchange import (
    JSON,
    PROTOBUF,
    Reply,
    request_json,
    request_proto,
    send,
    span_json,
)

CLASSIC_KEY = "0123456789abcdef0123456789abcdef"
EMPTY: dict[str, list[Any]] = {"resourceSpans": []}


@dataclass(frozen=True)
class Vendor:
    """What is expected of a profile; a refusal is a status and a part of the body."""

    path: str = "/v1/traces"
    success: int = 200
    # Header left out → answer. The first one is also sent with a wrong value.
    missing: dict[str, tuple[int, str]] = field(default_factory=dict)
    wrong: tuple[int, str] | None = None
    json: tuple[int, str] | None = None  # None: taken
    empty: tuple[int, str] | None = None
    max_bytes: int | None = None
    oversize: tuple[int, str] = (413, "larger than")
    zero_ids: tuple[int, str] | None = None
    undecodable: tuple[int, str] = (400, "")


FORBIDDEN = (403, '{"code": 403, "message": "Forbidden"}')
COLLECTOR_SIZE = {"max_bytes": 20 * 2**20, "oversize": (400, "http: request body too large")}
STRICT_IDS = (400, "not all zero")
TEMPO_IDS = (400, "trace ids must be 128 bit")
NO_LOGIN = (401, "is missing")
WRONG_LOGIN = (401, "wrong value")
VENDORS: dict[str, Vendor] = {
    "axiom": Vendor(
        missing={"Authorization": FORBIDDEN, "X-Axiom-Dataset": (400, "X-Axiom-Dataset")},
        wrong=FORBIDDEN,
        zero_ids=STRICT_IDS,
    ),
    "honeycomb": Vendor(
        missing={"x-honeycomb-team": (401, "missing 'x-honeycomb-team' header")},
        wrong=(401, '{"error": "unknown API key - check your credentials"}'),
        max_bytes=20 * 2**20,
        undecodable=(400, "failed to parse OTLP request body"),
    ),
    "lightstep": Vendor(
        path="/traces/otlp/v0.9",
        missing={"lightstep-access-token": NO_LOGIN},
        wrong=WRONG_LOGIN,
        zero_ids=STRICT_IDS,
    ),
    "tempo": Vendor(zero_ids=TEMPO_IDS, **COLLECTOR_SIZE),  # type: ignore[arg-type]
    "datadog": Vendor(
        success=202,
        missing={"dd-api-key": (403, "is missing")},
        wrong=(403, "wrong value"),
        max_bytes=3_200_000,
        zero_ids=STRICT_IDS,
    ),
    "newrelic": Vendor(
        missing={"api-key": (403, "is missing")},
        wrong=(403, "wrong value"),
        max_bytes=1_000_000,
        zero_ids=STRICT_IDS,
    ),
    "langfuse": Vendor(
        path="/api/public/otel/v1/traces",
        missing={"Authorization": (401, '{"message": ')},
        wrong=(401, '{"message": '),
        undecodable=(400, '{"error": "Failed to parse'),
    ),
    "phoenix": Vendor(
        missing={"Authorization": (401, '{"detail": "Invalid token"}')},
        wrong=(401, '{"detail": "Invalid token"}'),
        json=(415, "Unsupported content type"),
        undecodable=(422, "Request body is invalid"),
    ),
    "mlflow": Vendor(
        missing={"x-mlflow-experiment-id": (422, "Field required")},
        json=(400, "Expected: application/x-protobuf"),
        empty=(400, "no spans found"),
        zero_ids=(422, "Cannot convert"),
        undecodable=(400, '{"detail": "Invalid OpenTelemetry protobuf format"}'),
    ),
    "jaeger": Vendor(**COLLECTOR_SIZE),  # type: ignore[arg-type]
    "otel-collector": Vendor(**COLLECTOR_SIZE),  # type: ignore[arg-type]
    "grafana-cloud": Vendor(
        path="/otlp/v1/traces",
        missing={"Authorization": NO_LOGIN},
        wrong=WRONG_LOGIN,
        zero_ids=TEMPO_IDS,
        **COLLECTOR_SIZE,  # type: ignore[arg-type]
    ),
    "dash0": Vendor(missing={"Authorization": NO_LOGIN}, wrong=WRONG_LOGIN, zero_ids=STRICT_IDS),
    "signoz": Vendor(
        missing={"signoz-ingestion-key": NO_LOGIN},
        wrong=WRONG_LOGIN,
        **COLLECTOR_SIZE,  # type: ignore[arg-type]
    ),
    "openobserve": Vendor(
        path="/api/default/v1/traces",
        missing={"Authorization": NO_LOGIN},
        wrong=WRONG_LOGIN,
        zero_ids=STRICT_IDS,
    ),
    "uptrace": Vendor(missing={"uptrace-dsn": NO_LOGIN}, wrong=WRONG_LOGIN, zero_ids=STRICT_IDS),
}
each_vendor = pytest.mark.parametrize("name", VENDORS)


def post(
    collector: MockCollector,
    body: Any,
    *,
    without: str = "",
    encoding: dict[str, str] = PROTOBUF,
    path: str | None = None,
    more: dict[str, str] | None = None,
) -> Reply:
    """Send as the profile wants it, but for what the test changes."""
    content = body if isinstance(body, bytes) else body.SerializeToString()
    headers = {k: v for k, v in collector.headers.items() if k != without} | encoding | (more or {})
    return send(collector, content, headers=headers, path=path or urlsplit(collector.endpoint).path)


def check(reply: Reply, expected: tuple[int, str]) -> None:
    status, words = expected
    assert (reply.status, words in reply.body.decode("utf-8", "replace")) == (status, True), (
        reply.status,
        reply.body[:300],
    )


def body_json(*spans: dict[str, Any]) -> bytes:
    return json.dumps(request_json(*spans)).encode()


def test_every_profile_is_in_the_table() -> None:
    takers = {name for name in PROFILES if Signal.TRACES in profiles.build(name).rules}

    assert set(VENDORS) == takers


@each_vendor
def test_right_request_is_taken_with_the_vendors_status(name: str) -> None:
    vendor = VENDORS[name]
    with MockCollector(profile=name) as collector:
        assert collector.endpoint.endswith(vendor.path)
        assert post(collector, request_proto(2)).status == vendor.success
        if vendor.json is None:
            reply = post(collector, body_json(), encoding=JSON)
            assert reply.status == vendor.success
            assert reply.json() in ({}, {"partialSuccess": {}})

        assert collector.journal.counts.spans_accepted == (2 if vendor.json else 3)
        assert set(collector.journal.counts.answers) == {str(vendor.success)}


@each_vendor
def test_missing_header_is_answered_as_the_vendor_does(name: str) -> None:
    with MockCollector(profile=name) as collector:
        for header, expected in VENDORS[name].missing.items():
            check(post(collector, request_proto(), without=header), expected)

        assert collector.journal.counts.spans_accepted == 0


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.wrong])
def test_token_of_another_is_answered_as_the_vendor_does(name: str) -> None:
    expected = VENDORS[name].wrong
    assert expected is not None
    with MockCollector(profile=name, token="other:one") as other:
        headers = other.headers
        own = post(other, request_proto())
        assert own.status == VENDORS[name].success
    with MockCollector(profile=name) as collector:
        header = next(iter(VENDORS[name].missing))
        reply = post(collector, request_proto(), without=header, more={header: headers[header]})
        check(reply, expected)
        reason = collector.journal.requests()[0].reason
        assert "wrong value" in reason
        assert "other" not in reply.body.decode() + reason


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.json])
def test_json_is_refused_where_the_vendor_refuses_it(name: str) -> None:
    expected = VENDORS[name].json
    assert expected is not None
    with MockCollector(profile=name) as collector:
        check(post(collector, body_json(), encoding=JSON), expected)
        assert collector.journal.requests()[0].encoding == "json"


@each_vendor
def test_empty_request_is_taken_or_refused(name: str) -> None:
    vendor = VENDORS[name]
    with MockCollector(profile=name) as collector:
        check(post(collector, b""), vendor.empty or (vendor.success, ""))
        if vendor.json is None:
            empty = json.dumps(EMPTY).encode()
            assert post(collector, empty, encoding=JSON).status == vendor.success


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.max_bytes])
def test_body_over_the_vendors_limit_is_refused_before_and_after_decompression(name: str) -> None:
    vendor = VENDORS[name]
    assert vendor.max_bytes is not None
    over = bytes(vendor.max_bytes + 1)
    with MockCollector(profile=name) as collector:
        check(post(collector, over), vendor.oversize)
        packed = post(collector, gzip.compress(over), more={"Content-Encoding": "gzip"})
        check(packed, vendor.oversize)
        # As large as allowed: no protobuf, hence refused for that and no more for its size.
        assert post(collector, over[1:]).status == vendor.undecodable[0] == 400


@each_vendor
def test_one_span_with_zero_ids_is_taken_or_refuses_the_whole_batch(name: str) -> None:
    request = request_proto(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = bytes(16)
    with MockCollector(profile=name) as collector:
        expected = VENDORS[name].zero_ids
        check(post(collector, request), expected or (VENDORS[name].success, ""))
        assert collector.journal.counts.spans_accepted == (0 if expected else 3)


@each_vendor
def test_undecodable_body_is_refused_in_the_vendors_words(name: str) -> None:
    with MockCollector(profile=name) as collector:
        check(post(collector, b"\xff\xff"), VENDORS[name].undecodable)


@each_vendor
def test_profile_holds_in_counts_mode(name: str) -> None:
    vendor = VENDORS[name]
    request = request_proto(3)
    request.resource_spans[0].scope_spans[0].spans[1].span_id = bytes(8)
    with MockCollector(profile=name, keep="counts") as collector:
        assert post(collector, request_proto(2)).status == vendor.success
        expected = vendor.zero_ids[0] if vendor.zero_ids else vendor.success
        assert post(collector, request).status == expected
        assert len(collector.journal.span_keys()) == (2 if vendor.zero_ids else 4)


# What one vendor has of its own


def test_langfuse_refuses_a_batch_for_one_span_without_id() -> None:
    request = request_proto(2)
    request.resource_spans[0].scope_spans[0].spans[1].span_id = b""
    with MockCollector(profile="langfuse") as collector:
        check(post(collector, request), (400, '{"error": "Invalid span'))
        zipped = gzip.compress(request_proto().SerializeToString())
        assert post(collector, zipped, more={"Content-Encoding": "gzip"}).status == 200
        check(post(collector, zipped, more={"Content-Encoding": "zstd"}), (400, "Failed to parse"))
        parameter = {"Content-Type": "application/x-protobuf; anything"}
        assert post(collector, request_proto(), encoding=parameter).status == 200
        check(post(collector, b"", encoding={"Content-Type": "text/plain"}), (400, "content type"))


@pytest.mark.parametrize("name", ["jaeger", "otel-collector", "tempo"])
def test_span_without_ids_is_judged_as_by_that_receiver(name: str) -> None:
    request = request_proto(2)
    request.resource_spans[0].scope_spans[0].spans[1].ClearField("trace_id")
    short = request_proto(1)
    short.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    zero_parent = request_proto(1)
    zero_parent.resource_spans[0].scope_spans[0].spans[0].parent_span_id = bytes(8)
    with MockCollector(profile=name) as collector:
        assert post(collector, request).status == (400 if name == "tempo" else 200)
        assert post(collector, short).status == 400
        assert post(collector, zero_parent).status == 200


def test_collector_says_success_and_what_it_does_not_know_in_its_own_form() -> None:
    with MockCollector(profile="otel-collector") as collector:
        assert post(collector, request_proto()).body == b"\x0a\x00"
        assert post(collector, body_json(), encoding=JSON).body == b'{"partialSuccess":{}}'
        unknown = post(collector, b"", encoding={"Content-Type": "application/protobuf"})
        check(unknown, (415, "unsupported media type"))
        assert unknown.headers["content-type"].startswith("text/plain")
        check(send(collector, b"", method="GET"), (405, "405 method not allowed"))
        check(send(collector, b"", path="/v1/traces/"), (404, "404 page not found"))
        packed = gzip.compress(request_proto().SerializeToString())
        assert post(collector, packed, more={"Content-Encoding": "gzip"}).status == 200
        for coding in ("GZIP", "x-gzip", "br"):
            reply = post(collector, packed, more={"Content-Encoding": coding})
            assert (reply.status, status_pb2.Status.FromString(reply.body).code) == (400, 3)
            # As it judges the coding before all else.
            reply = send(collector, b"", path="/nowhere", headers={"Content-Encoding": coding})
            assert reply.status == 400


def test_collector_with_a_token_answers_401_in_the_encoding_of_the_request() -> None:
    with MockCollector(profile="otel-collector", token="t0p") as collector:
        assert collector.headers == {"Authorization": "Bearer t0p"}
        assert post(collector, request_proto()).status == 200
        reply = post(collector, request_proto(), without="Authorization")
        assert (reply.status, status_pb2.Status.FromString(reply.body).code) == (401, 16)
        reply = send(collector, request_json(), headers=JSON | {"Authorization": "Bearer x"})
        assert (reply.status, reply.json()["code"]) == (401, 16)


def test_tempo_with_multitenancy_is_503_without_tenant() -> None:
    with MockCollector(profile=profiles.build("tempo", multitenancy=True)) as collector:
        reply = send(collector, request_json())
        assert (reply.status, reply.json()) == (503, {"code": 14, "message": "no org id"})
        assert send(collector, request_json(), headers=JSON | {"X-Scope-OrgID": "a"}).status == 200


@pytest.mark.parametrize("key", [CLASSIC_KEY, "hcaic_" + "0" * 58])
def test_honeycomb_wants_the_dataset_with_a_classic_key_only(key: str) -> None:
    with MockCollector(profile="honeycomb", token=key) as collector:
        assert collector.headers == {"x-honeycomb-team": key, "x-honeycomb-dataset": "traces"}
        assert post(collector, request_proto()).status == 200
        check(
            post(collector, request_proto(), without="x-honeycomb-dataset"),
            (401, "missing 'x-honeycomb-dataset' header"),
        )
    with MockCollector(profile="honeycomb", token="hcaik_" + "0" * 58) as collector:
        assert list(collector.headers) == ["x-honeycomb-team"]


@pytest.mark.parametrize("key", ["startTimeUnixNano", "endTimeUnixNano"])
def test_honeycomb_refuses_times_as_numbers_in_json(key: str) -> None:
    with MockCollector(profile="honeycomb") as collector:
        spans = (span_json(1), span_json(2, **{key: 1767225600000000000}))
        check(post(collector, body_json(*spans), encoding=JSON), (400, "ParseUint"))
        assert collector.journal.counts.spans_accepted == 0
        assert collector.journal.requests()[0].reason.startswith(key)


def test_honeycomb_compares_the_whole_content_type() -> None:
    with MockCollector(profile="honeycomb") as collector:
        alias = {"Content-Type": "application/protobuf"}
        assert post(collector, request_proto(), encoding=alias).status == 200
        parameter = {"Content-Type": "application/json; charset=utf-8"}
        check(post(collector, body_json(), encoding=parameter), (415, "unsupported content-type"))
        check(post(collector, b"", more={"Content-Encoding": "deflate"}), (415, ""))


@pytest.mark.parametrize("media_type", ["application/x-protobuf; a=b", "application/X-protobuf"])
def test_phoenix_and_mlflow_compare_the_whole_content_type(media_type: str) -> None:
    for name, status in (("phoenix", 415), ("mlflow", 400)):
        with MockCollector(profile=name) as collector:
            reply = post(collector, request_proto(), encoding={"Content-Type": media_type})
            assert reply.status == status


def test_phoenix_without_token_asks_for_none() -> None:
    with MockCollector(profile="phoenix", token="") as collector:
        assert collector.headers == {}
        assert send(collector, request_proto()).status == 200


def test_lightstep_takes_protobuf_only_at_its_other_path() -> None:
    with MockCollector(profile="lightstep") as collector:
        assert post(collector, request_proto(), path="/v1/traces").status == 200
        reply = post(collector, body_json(), path="/v1/traces", encoding=JSON)
        check(reply, (415, "Content-Type is not application/x-protobuf"))


def test_datadog_can_be_the_older_one_that_takes_no_json() -> None:
    with MockCollector(profile=profiles.build("datadog", takes_json=False)) as collector:
        assert post(collector, body_json(), encoding=JSON).status == 415
        assert post(collector, request_proto()).status == 202


def test_axiom_refuses_more_spans_than_a_batch_has_and_another_dataset() -> None:
    with MockCollector(profile=profiles.build("axiom", dataset="mine")) as collector:
        assert post(collector, request_proto(10_000)).status == 200
        assert post(collector, request_proto(10_001)).status == 413
        assert collector.journal.counts.spans_accepted == 10_000
        reply = post(
            collector,
            request_proto(),
            without="X-Axiom-Dataset",
            more={"X-Axiom-Dataset": "yours"},
        )
        check(reply, FORBIDDEN)


@pytest.mark.parametrize(("name", "token"), [("langfuse", "pk:sk"), ("grafana-cloud", "12:glc_x")])
def test_basic_token_may_be_given_plain_or_encoded(name: str, token: str) -> None:
    encoded = base64.b64encode(token.encode()).decode()

    for given in (token, encoded):
        assert profiles.build(name, given).headers == {"Authorization": f"Basic {encoded}"}


def test_mlflow_takes_an_envelope_without_spans() -> None:
    request = request_proto(0)
    with MockCollector(profile="mlflow") as collector:
        assert post(collector, request).status == 200


def test_mlflow_behind_a_login_wants_its_token_too() -> None:
    with MockCollector(profile="mlflow", token="t") as collector:
        assert post(collector, request_proto()).status == 200
        check(post(collector, request_proto(), without="Authorization"), (401, "Unauthorized"))


# Profiles with everything else


def test_script_answers_after_the_vendors_own_refusals() -> None:
    with MockCollector(profile="datadog", script=[partial(1, "no")]) as collector:
        assert post(collector, b"", without="dd-api-key").status == 403
        assert post(collector, request_proto(2)).status == 202
        assert collector.journal.counts.answers == {"403": 1, "partial 1": 1}
        assert collector.journal.counts.spans_accepted == 1


def test_required_headers_path_and_limit_add_to_a_profile() -> None:
    with MockCollector(
        profile="axiom", path="/here", required_headers={"X-More": "1"}, max_body_bytes=100
    ) as collector:
        assert list(collector.headers) == ["Authorization", "X-Axiom-Dataset", "X-More"]
        assert post(collector, b"", path="/here").status == 200
        assert post(collector, b"", path="/here", without="X-More").status == 401
        assert post(collector, bytes(101), path="/here").status == 413
        assert post(collector, b"", path="/v1/traces").status == 404


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("axion", {}, "did you mean 'axiom'?"),
        ("nothing-like-it", {}, "there are axiom, dash0"),
        ("jaeger", {"token": "x"}, "jaeger has no token; it has no options"),
        ("tempo", {"tenancy": True}, "tempo has no tenancy; it has multitenancy"),
        ("tempo", {"multitenancy": "yes"}, "multitenancy of tempo is true or false"),
        ("axiom", {"dataset": True}, "dataset of axiom is a text"),
    ],
)
def test_profile_that_cannot_be_says_what_can(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProfileError) as raised:
        profiles.build(name, **options)

    assert words in str(raised.value)


def test_token_needs_a_profile() -> None:
    with pytest.raises(ValueError, match="name of a profile"):
        MockCollector(token="x")


@each_vendor
def test_profile_says_what_it_models_and_hides_its_tokens(name: str) -> None:
    profile = profiles.build(name, **({"token": "hunter2:x"} if VENDORS[name].wrong else {}))

    assert profile.summary.endswith(".")
    assert "\n" not in profile.summary
    assert "hunter2" not in repr(profile) + profile.summary
