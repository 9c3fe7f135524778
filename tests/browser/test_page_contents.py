"""Whatever senders and upstreams write is shown as they wrote it, and never does anything."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser

from mockcollector.script import refuse
from mockcollector.server import MockCollector
from tests.browser.tab import Tab, tab_on
from tests.support.builders import SPAN_ID, TRACE_ID, Json, request, span, text_attribute
from tests.support.relay_process import Relay, eventually


def canary(where: str) -> str:
    """Markup that acts if it is ever taken for markup, and tells where it stood."""
    return (
        f"[{where}]</span></pre><img src=x onerror=\"window.ran='{where}'\">"
        f"<script>window.ran='{where}'</script>"
        f"<b class=canary hx-get=/api/canary hx-trigger=load>{where}</b>"
        f"<hx-partial hx-target=body>{where}</hx-partial>{{{{ 7 * 7 }}}}"
    )


def spans() -> Json:
    attribute = text_attribute(canary("key"), canary("value"))
    made = span(
        name=canary("name"),
        attributes=[attribute],
        events=[{"name": canary("event"), "attributes": [attribute]}],
        links=[{"traceId": "1" * 32, "spanId": "2" * 16, "attributes": [attribute]}],
        status={"code": 2, "message": canary("status")},
    )
    odd = span(traceId=canary("id")[:100], name=canary("rejected"))
    return request(made, odd, service=canary("service"), scope=canary("scope"))


def call() -> Json:
    """A call of a model below it."""
    attributes = [
        text_attribute("gen_ai.operation.name", "chat"),
        text_attribute("gen_ai.request.model", canary("model")),
        text_attribute("gen_ai.prompt", canary("prompt")),
        text_attribute("gen_ai.completion", json.dumps({"completion": canary("completion")})),
    ]
    return request(span(spanId="3" * 16, parentSpanId=SPAN_ID, attributes=attributes))


def logs() -> Json:
    record = {
        "traceId": TRACE_ID,
        "eventName": canary("log event"),
        "body": {"stringValue": canary("body")},
        "attributes": [text_attribute(canary("log key"), canary("log value"))],
    }
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def metrics() -> Json:
    point = {"timeUnixNano": "1796047321000000000", "asDouble": 1.0}
    point["attributes"] = [text_attribute(canary("metric key"), canary("metric value"))]
    metric = {"name": canary("metric"), "unit": canary("unit"), "gauge": {"dataPoints": [point]}}
    metric["description"] = canary("description")
    resource = {"attributes": [text_attribute("service.name", canary("metric service"))]}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}


def assert_shown(tab: Tab, *names: str) -> None:
    """Each is to be read, and none has become an element."""
    text = tab.page.evaluate("document.body.textContent")
    missing = [name for name in names if f"[{name}]</span></pre><img src=x onerror=" not in text]
    assert missing == []
    for selector in ("img", ".canary", "main script", "hx-partial", "[hx-get^='/api/canary']"):
        assert tab.page.locator(selector).count() == 0, selector
    assert tab.page.evaluate("window.ran") is None
    assert [each.url for each in tab.requests if "canary" in each.url.partition("?")[0]] == []


def letters_of(relay: Relay) -> set[str]:
    """Destinations that have dead letters."""
    return {each["destination"] for each in relay.get("/api/dead-letters")[1]["letters"]}


def test_canaries_in_every_field_of_every_signal_are_shown_and_never_run(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream, MockCollector() as strict:
        upstream.script.replace(refuse(401, message=canary("words"), times=None))
        strict.script.replace(refuse(413, message=canary("verdict"), times=None))
        destinations: dict[str, dict[str, Any]] = {
            "there": {"endpoint": upstream.endpoint},
            "strict": {"endpoint": strict.endpoint},
            "rest": {"endpoint": strict.endpoint_of("logs"), "signals": ["logs"]},
            "numbers": {"endpoint": strict.endpoint_of("metrics"), "signals": ["metrics"]},
        }
        with Relay(tmp_path, destinations) as relay, tab_on(browser, relay) as tab:
            sender = {"User-Agent": canary("agent").replace("\n", " ")}
            assert relay.post(spans(), headers=sender)[0] == 200
            assert relay.post(logs(), path="/v1/logs")[0] == 200
            assert relay.post(metrics(), path="/v1/metrics")[0] == 200
            eventually(lambda: {"ingest", "strict"} <= letters_of(relay))
            assert relay.post(call())[0] == 200
            tab.page.reload()
            tab.see("#d-there .state", "blocked")
            assert_shown(tab, "service", "agent", "words")
            tab.go("/traces")
            tab.see("#traces td", "[name]")
            assert_shown(tab, "name", "service", "model")
            tab.go(f"/traces/{TRACE_ID}")
            tab.page.locator("#tree summary").nth(1).click()
            tab.page.locator("#tree summary").first.click()
            tab.see("#n-0 caption", "Resource")
            tab.see(".genai dd", "[model]")
            assert_shown(
                tab,
                *("name", "service", "scope", "key", "value", "event", "status", "agent", "words"),
                *("model", "prompt", "completion", "verdict", "body", "log event"),
                *("log key", "log value"),
            )
            tab.go("/logs")
            tab.see("#logs td", "[body]")
            assert_shown(tab, "body", "log event", "log key", "log value")
            tab.go("/metrics-view")
            tab.see("#series td", "[metric]")
            assert_shown(tab, "metric", "metric service", "unit", "metric key", "metric value")
            tab.go("/genai")
            assert_shown(tab, "model")
            tab.go("/rejected")
            tab.see("#rejected td", "trace_id_malformed")
            tab.page.locator("#rejected summary").first.click()
            tab.see("#rejected pre", "[id]")
            assert_shown(tab, "agent")
            tab.go("/destinations/strict")
            tab.see("#groups td", "[verdict]")
            tab.page.locator(".letters summary").first.click()
            tab.see(".letters .words", "[verdict]")
            assert_shown(tab, "verdict")
            quoted = quote('"a <img src=x onerror=alert(1)>"')
            tab.go(f"/traces?q={quoted}")
            tab.see("h1 q", "a <img src=x onerror=alert(1)>")
            assert_shown(tab)
            assert tab.page.evaluate("violations") == []
