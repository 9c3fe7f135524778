"""What a page asks of a real relay: every route over real sockets, and who is refused."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span
from tests.support.commands import run_here
from tests.support.relay_process import Relay, eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "1af7651916cd43dd8448eb211c80319c"
ROOT = "00f067aa0ba902b7"
FIXTURES = Path(__file__).parent.parent / "fixtures"
ALL_SIGNALS = ["traces", "logs", "metrics"]


def attribute(key: str, text: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": text}}


def log_request(*records: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", "shop")]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": list(records)}]}]}


def record(text: str, severity: int = 9, **more: Any) -> dict[str, Any]:
    now = str(time.time_ns())
    return {
        "timeUnixNano": now,
        "severityNumber": severity,
        "body": {"stringValue": text},
        **more,
    }


def gauge_request(name: str, *values: float, service: str = "shop") -> dict[str, Any]:
    begin = time.time_ns()
    points = [{"timeUnixNano": str(begin + at), "asDouble": v} for at, v in enumerate(values)]
    metric = {"name": name, "unit": "s", "gauge": {"dataPoints": points}}
    resource = {"attributes": [attribute("service.name", service)]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}


def spans_of(sent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in sent["resourceSpans"]:
        for scope in entry["scopeSpans"]:
            yield from scope["spans"]


def view(relay: Relay, path: str) -> Any:
    status, found = relay.get(f"/api/view/{path}")
    assert status == 200, found
    return found


def everything(relay: Relay, what: str, query: str = "", limit: int = 100) -> list[Any]:
    """All pages of a list, one after another."""
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = view(relay, f"{what}?q={quote(query)}&limit={limit}&cursor={cursor}")
        found += page[what]
        cursor = page["next"]
    return found


class Raw:
    """A request to the admin listener with any headers, and its response as it comes."""

    def __init__(
        self,
        relay: Relay,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=20)
        token = (relay.state_dir / "admin-token").read_text().strip()
        sent = {"Authorization": f"Bearer {token}", **(headers or {})}
        self._connection.request(method, path, body, sent)
        self.response = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def events(self) -> Iterator[tuple[str, Any]]:
        """Each event until the stream ends."""
        name = ""
        while line := self.response.readline():
            key, _, text = line.decode().rstrip("\n").partition(": ")
            if key == "event":
                name = text
            elif key == "data":
                yield name, json.loads(text)


@contextmanager
def running(folder: Path, settings: str = "") -> Iterator[tuple[Relay, MockCollector]]:
    with MockCollector() as upstream:
        there = {"endpoint": upstream.endpoint, "signals": ALL_SIGNALS}
        with Relay(folder, {"there": there}, settings=settings) as relay:
            yield relay, upstream


def test_traces_are_listed_with_their_roots_and_where_they_stand(tmp_path: Path) -> None:
    child = span(traceId=TRACE, parentSpanId=ROOT, spanId="1111111111111111", name="child")
    root = span(traceId=TRACE, spanId=ROOT, name="GET /cart", status={"code": 2})
    with running(tmp_path) as (relay, upstream):
        assert relay.post(request(child))[0] == 200
        (line,) = view(relay, "traces")["traces"]
        assert (line["name"], line["is_root"]) == ("child", False)

        assert relay.post(request(root))[0] == 200
        upstream.journal.wait_for_spans(2)
        (line,) = eventually(
            lambda: (
                (lines := view(relay, "traces")["traces"])[0]["destinations"]
                == {"there": "delivered"}
                and lines
            )
        )
        assert (line["name"], line["is_root"], line["spans"], line["errors"]) == (
            "GET /cart",
            True,
            2,
            1,
        )
        assert (line["service"], line["trace_id"]) == ("shop", TRACE)


def test_traces_of_one_request_may_stand_differently(tmp_path: Path) -> None:
    with MockCollector(script="partial=1:names are too long,ok*") as upstream:
        with Relay(tmp_path, {"mock": {"endpoint": upstream.endpoint}}) as relay:
            assert relay.post(request(span(traceId=TRACE), span(traceId=TRACE)))[0] == 200
            eventually(lambda: relay.destination("mock")["refused_spans"] == 1)
            assert relay.post(request(span(traceId=OTHER)))[0] == 200
            eventually(lambda: relay.destination("mock")["delivered_spans"] == 2)

            def states() -> dict[str, Any]:
                lines = view(relay, "traces")["traces"]
                return {each["trace_id"]: each["destinations"]["mock"] for each in lines}

            for trace_id, state in states().items():
                (way,) = view(relay, f"traces/{trace_id}")["way"]["destinations"]
                assert way["state"] == state
            assert states()[OTHER] == "delivered"


def test_without_a_destination_a_trace_stands_nowhere(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.post(request(span()))[0] == 200
        assert view(relay, "traces")["traces"][0]["destinations"] == {}


def test_line_of_a_trace_in_many_rows_says_that_it_is_made_of_some(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        for at in range(55):
            assert relay.post(request(span(traceId=TRACE, spanId=f"{at + 1:016x}")))[0] == 200

        (line,) = view(relay, "traces")["traces"]
        assert (line["spans"], line["is_cut"]) == (50, True)
        found = view(relay, f"traces/{TRACE}")
        assert (found["trace"]["spans"], found["is_cut"]) == (55, False)


def test_words_of_others_are_data_and_nothing_else(tmp_path: Path) -> None:
    canary = "<img src=x onerror=alert(1)><b hx-get='/api/reload' hx-trigger='load'>"
    bad = span(traceId=canary, name=canary)
    own = span(traceId=TRACE, name=canary, attributes=[attribute(canary, canary)])
    with running(tmp_path) as (relay, _upstream):
        assert relay.post(request(own, bad, service=canary))[0] == 200
        for path in ("traces", f"traces/{TRACE}", "rejected", "rates"):
            with Raw(relay, f"/api/view/{path}") as raw:
                headers = raw.response.headers
                assert headers["content-type"] == "application/json", path
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["content-security-policy"].startswith("default-src 'none'")
                assert headers["cache-control"] == "no-store"
                json.loads(raw.response.read())
        assert view(relay, "traces")["traces"][0]["name"] == canary
        (rejected,) = view(relay, "rejected")["rejected"]
        assert rejected["words"] == canary


def test_every_trace_is_met_once_while_others_arrive(tmp_path: Path) -> None:
    ids = [f"{at + 1:032x}" for at in range(60)]
    with running(tmp_path) as (relay, _upstream):
        for at in range(0, 60, 6):
            spans = [span(traceId=each, spanId=f"{at + 1:016x}") for each in ids[at : at + 6]]
            assert relay.post(request(*spans))[0] == 200
        met: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = view(relay, f"traces?limit=7&cursor={cursor}")
            met += [each["trace_id"] for each in page["traces"]]
            cursor = page["next"]
            # One that was met gets another span, one comes that is new.
            new = span(traceId=f"{1000 + len(met):032x}")
            assert relay.post(request(new, span(traceId=met[0], spanId=ROOT)))[0] == 200

        assert sorted(met) == sorted(ids)


def test_search_finds_exactly_what_is_meant_and_tells_how_far_it_looked(tmp_path: Path) -> None:
    gold = {"attributes": [attribute("customer.tier", "gold")]}
    slow = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": "3000000000"}
    spans = [
        span(traceId=f"{1:032x}", name="GET /cart", **gold),
        span(traceId=f"{2:032x}", status={"code": 2}, **slow),
        span(traceId=f"{3:032x}", status={"code": 2}, **slow, **gold),
        span(traceId=f"{4:032x}", name="POST /pay"),
    ]

    with running(tmp_path) as (relay, _upstream):
        for each in spans:
            assert relay.post(request(each))[0] == 200

        def found(query: str) -> list[int]:
            return [int(each["trace_id"], 16) for each in everything(relay, "traces", query)]

        assert found("customer.tier=gold") == [3, 1]
        assert found("-customer.tier=gold error >500ms") == [2]
        assert found("cart") == [1]
        assert found("service:shop -error") == [4, 1]
        assert found(f"{4:032x}") == [4]
        assert found(f"{4:032x} error") == []
        looked = view(relay, "traces?q=customer.tier%3Dnone")["looked"]
        assert (looked["items"], looked["of_items"], looked["is_whole"]) == (4, 4, True)
        for wrong in ("traces?q=%3Esoon", "traces?limit=501", "traces?cursor=1.2", "logs?limit=x"):
            assert relay.get(f"/api/view/{wrong}")[0] == 400, wrong


@pytest.mark.parametrize("cursor", ["0.0.0", "9.0.0", "0.9.9", f"{10**18 - 1}.{10**18 - 1}.0"])
def test_cursor_that_nobody_gave_leads_nowhere_else(tmp_path: Path, cursor: str) -> None:
    with running(tmp_path) as (relay, _upstream):
        assert relay.post(request(span(traceId=TRACE)))[0] == 200
        for what in ("traces", "logs"):
            page = view(relay, f"{what}?cursor={cursor}&q=-error")
            assert page["next"] is None
            assert len(page[what]) <= 1


def test_one_trace_is_told_with_its_tree_its_way_and_its_log_records(tmp_path: Path) -> None:
    long = "x" * 20_000
    root = span(traceId=TRACE, spanId=ROOT, name="root", attributes=[attribute("long", long)])
    child = span(traceId=TRACE, spanId="1111111111111111", parentSpanId=ROOT, name="child")
    settings = '[enrich]\nattributes = { team = "web" }\n'
    with running(tmp_path, settings) as (relay, _upstream):
        assert relay.post(request(child, root, span(traceId=OTHER)))[0] == 200
        own = record("paid", traceId=TRACE, spanId=ROOT)
        assert relay.post(log_request(own, record("not mine")), path="/v1/logs")[0] == 200
        found = view(relay, f"traces/{TRACE}?q=child")

        tree = found["trace"]["tree"]
        assert [(each["name"], each["depth"]) for each in tree] == [("root", 0), ("child", 1)]
        assert found["trace"]["matches"] == [1]
        assert [each["body"]["value"] for each in found["logs"]] == ["paid"]
        assert [each["name"] for each in found["way"]["destinations"]] == ["there", "there"]
        (attribute_shown,) = tree[0]["details"]["attributes"]
        assert (attribute_shown["size"], len(attribute_shown["value"])) == (20_000, 1000)
        place = f"row={tree[0]['row']}&item={tree[0]['item']}"
        assert view(relay, f"value?{place}&at={attribute_shown['at']}")["value"] == long
        added = [each["key"] for each in tree[0]["details"]["resource"] if "by_relay" in each]
        assert "team" in added
        assert view(relay, f"span?{place}")["attributes"] == [attribute_shown]

        assert relay.get(f"/api/view/traces/{'f' * 32}")[0] == 404
        for gone in ("span?row=999&item=0", "span?row=1&item=99", f"value?{place}&at=attributes/7"):
            assert relay.get(f"/api/view/{gone}")[0] == 404, gone
        assert relay.get("/api/view/value?row=x&item=0")[0] == 400


def test_log_records_are_listed_newest_first_and_searched(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        for at in range(5):
            both = log_request(record(f"even {at}"), record(f"odd {at}", 17, traceId=TRACE))
            assert relay.post(both, path="/v1/logs")[0] == 200

        texts = [each["body"]["value"] for each in everything(relay, "logs", limit=3)]
        assert texts == [f"{word} {at}" for at in (4, 3, 2, 1, 0) for word in ("odd", "even")]
        assert len(everything(relay, "logs", "level:error")) == 5
        assert len(everything(relay, "logs", f"trace:{TRACE} odd")) == 5
        (one,) = everything(relay, "logs", '"even 3"')
        assert (one["level"], one["service"]) == ("info", "shop")


def test_metrics_are_told_with_their_newest_value_and_the_last_few(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        assert relay.post(gauge_request("load", 1, 2, 3), path="/v1/metrics")[0] == 200
        (series,) = view(relay, "metrics")["series"]
        assert (series["name"], series["value"], series["kind"]) == ("load", 3, "gauge")

        assert relay.post(gauge_request("load", 4), path="/v1/metrics")[0] == 200
        assert relay.post(gauge_request("other", 9), path="/v1/metrics")[0] == 200
        found = view(relay, "metrics?q=name:load")
        assert [point[1] for point in found["series"][0]["points"]] == [1, 2, 3, 4]
        assert (found["meant"], found["in_memory"], found["looked"]["is_whole"]) == (1, 2, True)


def test_rates_and_rejected_tell_who_sent_what(tmp_path: Path) -> None:
    bad = span(traceId="not an id")
    with running(tmp_path) as (relay, _upstream):
        assert relay.post(request(span(), bad), headers={"User-Agent": "tester/1"})[0] == 200
        rates = eventually(lambda: (r := view(relay, "rates"))["senders"] and r["rejected"] and r)

        (sender,) = rates["senders"]
        assert (sender["service"], sender["user_agent"]) == ("shop", "tester/1")
        assert (sum(sender["items"]), sum(rates["kept"]["traces"])) == (1, 1)
        assert [each["reason"] for each in rates["rejected"]] == ["trace_id_malformed"]
        assert rates["happened"][0]["kind"] == "rejected"
        assert len(view(relay, "rates?steps=1")["kept"]["traces"]) == 1
        assert relay.get("/api/view/rates?steps=361")[0] == 400
        (rejected,) = view(relay, "rejected")["rejected"]
        assert (rejected["sender"], rejected["user_agent"]) == ("127.0.0.1", "tester/1")
        assert relay.get(f"/api/dead-letters/{rejected['dead_letter']}")[0] == 200


def test_events_come_as_things_happen_and_end_at_once_with_the_daemon(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, upstream), Raw(relay, "/api/view/events") as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        events = stream.events()
        assert next(events)[0] == "hello"
        assert relay.post(request(span(traceId=TRACE, name="secret")))[0] == 200
        arrived = next(data for name, data in events if name == "arrived")
        assert (arrived["items"]["traces"], arrived["trace_ids"]) == (1, [TRACE])

        upstream.script.replace("401:bad key*")
        assert relay.post(request(span()))[0] == 200
        state = next(data for name, data in events if name == "destination")
        assert (state["name"], state["state"], state["status"]) == ("there", "blocked", 401)
        stopping = threading.Thread(target=relay.stop)
        stopping.start()
        begun = time.monotonic()
        rest = list(events)
        assert time.monotonic() - begun < 5
        stopping.join()
        assert "secret" not in json.dumps(rest)


def test_ninth_stream_is_refused_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        streams = [Raw(relay, "/api/view/events") for _ in range(8)]
        assert all(each.response.status == 200 for each in streams)
        with Raw(relay, "/api/view/events", method="HEAD") as head:
            assert head.response.status in (200, 503)
        assert relay.get("/api/view/events")[0] == 503
        for each in streams:
            next(each.events())  # with nothing left to read its end is no reset
            each.__exit__()

        def has_room() -> bool:
            with Raw(relay, "/api/view/events") as stream:
                return stream.response.status == 200

        eventually(has_room, seconds=10.0)  # sooner than a second write would tell


def test_steps_of_a_test_come_as_they_happen(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        path = "/api/destinations/there/test?stream=true"
        with Raw(relay, path, method="POST") as stream:
            events = list(stream.events())
        steps = [data for name, data in events if name == "step"]
        assert [each["name"] for each in steps[:2]] == ["name", "tcp"]
        assert {each["signal"] for each in steps} == set(ALL_SIGNALS)
        assert events[-1][0] == "done"
        assert events[-1][1]["passed"]
        assert relay.ask("POST", "/api/destinations/nobody/test?stream=true")[0] == 404


def add(relay: Relay, body: Any, *, stream: bool = False) -> tuple[int, Any]:
    path = f"/api/destinations?stream={str(stream).lower()}"
    with Raw(relay, path, method="POST", body=json.dumps(body).encode()) as raw:
        if stream:
            return raw.response.status, list(raw.events())
        return raw.response.status, json.loads(raw.response.read())


def test_destination_is_added_only_if_its_test_passes_and_no_value_is_repeated(
    tmp_path: Path,
) -> None:
    secret = "s3cret-$value"
    with running(tmp_path) as (relay, _upstream), MockCollector(script="401:bad key*") as other:
        headers = {"Authorization": f"Bearer {secret}"}
        new = {"name": "new", "endpoint": other.endpoint, "headers": headers}
        status, refused = add(relay, new)
        assert status == 409
        assert not refused["saved"]
        assert "bad key" in json.dumps(refused["test"])
        assert secret not in json.dumps(refused)
        assert not list(tmp_path.rglob("new.toml"))

        other.script.replace("ok*")
        status, events = add(relay, new, stream=True)
        assert [name for name, _data in events][-1] == "done"
        (file,) = tmp_path.rglob("new.toml")
        assert file.stat().st_mode & 0o777 == 0o600
        assert secret not in json.dumps(events)
        assert relay.destination("new")["state"] == "idle"
        assert relay.post(request(span()))[0] == 200
        other.journal.wait_for_spans(1)
        sent = dict(other.journal.requests()[-1].headers)
        assert sent["authorization"] == f"Bearer {secret}"
        assert add(relay, new)[0] == 409


@pytest.mark.parametrize(
    "body",
    [
        {"name": "new"},
        {"name": "new", "endpoint": "http://127.0.0.1:1/v1/traces", "colour": "red"},
        {"name": "../up", "endpoint": "http://127.0.0.1:1/v1/traces"},
        {"name": "new", "endpoint": "http://x/", "headers": {"A": "${env:SECRET}"}},
        {"name": "new", "endpoint": "http://${env:SECRET}/v1/traces"},
        {"name": "new", "preset": "openrouter"},
        {"name": "new", "preset": "nothing"},
        {"name": "new", "preset": "honeycomb"},
        {"name": "new", "endpoint": "http://x/", "from": "yesterday"},
        {"name": "there", "endpoint": "http://127.0.0.1:1/v1/traces"},
        [],
    ],
)
def test_destination_that_is_none_is_refused_in_words(tmp_path: Path, body: Any) -> None:
    with running(tmp_path) as (relay, _upstream):
        raw = json.dumps(body).encode()
        with Raw(relay, "/api/destinations", method="POST", body=raw) as refused:
            assert refused.response.status in (400, 409)
            said = json.loads(refused.response.read())["error"]
            assert said
            if "honeycomb" in raw.decode():
                assert "x-honeycomb-team" in said
        assert not list(tmp_path.rglob("new.toml"))


def test_token_alone_is_enough_for_a_header_of_a_preset(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream), MockCollector() as other:
        new = {
            "name": "new",
            "preset": "axiom",
            "endpoint": other.endpoint,
            "signals": ["traces"],
            "headers": {"authorization": "t$ken", "X-Axiom-Dataset": "mine"},
        }
        status, added = add(relay, new)
        assert (status, added["test"]["passed"]) == (200, True), added
        sent = dict(other.journal.requests()[-1].headers)
        assert sent["authorization"] == "Bearer t$ken"
        assert sent["x-axiom-dataset"] == "mine"
        assert "Authorization" in added["hint"] or "authorization" in added["hint"]


def test_presets_are_told_without_secrets(tmp_path: Path) -> None:
    with running(tmp_path) as (relay, _upstream):
        status, found = relay.get("/api/presets")

        assert status == 200
        assert "axiom" in [each["name"] for each in found["presets"]]
        told = json.loads(run_here(("destination", "presets", "axiom", "--json"), {}).stdout)
        assert told in found["presets"]


def test_whoever_has_no_right_is_told_nothing(tmp_path: Path) -> None:
    paths = ("traces", f"traces/{TRACE}", "logs", "metrics", "rates", "rejected", "events")
    with running(tmp_path) as (relay, _upstream):
        assert relay.post(request(span(traceId=TRACE, name="secret")))[0] == 200
        for path in (*(f"/api/view/{each}" for each in paths), "/api/presets"):
            status, said = relay.get(path, token="wrong")
            assert (status, "secret" in json.dumps(said)) == (401, False), path
            with Raw(relay, path, headers={"Host": "evil.example"}) as foreign:
                assert foreign.response.status == 421, path
        elsewhere: tuple[dict[str, str], ...] = (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        )
        for headers in elsewhere:
            with Raw(relay, "/api/reload", method="POST", headers=headers) as refused:
                assert refused.response.status == 403, headers
        own = {
            "Sec-Fetch-Site": "same-origin",
            "Origin": f"http://127.0.0.1:{relay.admin_port}",
        }
        with Raw(relay, "/api/reload", method="POST", headers=own) as accepted:
            assert accepted.response.status == 200


def test_everything_that_senders_send_can_be_looked_at(tmp_path: Path) -> None:
    paths = {".logs.json": "/v1/logs", ".metrics.json": "/v1/metrics", ".json": "/v1/traces"}
    with running(tmp_path) as (relay, _upstream):
        for file in sorted(FIXTURES.glob("*.json")):
            if ".expect" not in file.name:
                path = next(paths[end] for end in paths if file.name.endswith(end))
                relay.post(file.read_bytes(), path=path)
        chat = json.loads((FIXTURES / "08_openrouter_chat.json").read_text())
        twin = protobuf_twin(chat).SerializeToString()
        binary = {"Content-Type": "application/x-protobuf"}
        assert relay.post(twin, headers=binary)[0] == 200

        traces = everything(relay, "traces", limit=5)
        assert len(traces) == len({each["trace_id"] for each in traces}) > 5
        for each in traces:
            assert view(relay, f"traces/{each['trace_id']}")["trace"]["tree"], each
        both = next(each for each in traces if "LLM Generation" in each["name"])
        assert both["spans"] == len(list(spans_of(chat))), "sent as JSON and as protobuf"
        genai = both["genai"]
        assert genai["models"] == ["example/tiny-chat"]
        assert (genai["input_tokens"], genai["output_tokens"]) == (21, 3)
        assert genai["cost_usd"] == pytest.approx(0.0000036)
        assert everything(relay, "logs")
        metrics = view(relay, "metrics")["series"]
        assert {each["kind"] for each in metrics} >= {"gauge", "sum", "histogram", "summary"}
        assert all(each["value"] is not None for each in metrics if each["at"])
