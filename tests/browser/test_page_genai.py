"""Calls of models in the page: one panel for every dialect, bounded, and sums that are true."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from mockcollector.server import MockCollector
from tests.browser.tab import Tab, tab_on
from tests.support.builders import SPAN_ID, TRACE_ID, Json, request, span, text_attribute
from tests.support.relay_process import Relay
from tests.unit.genai.making import llm_span
from tests.unit.genai.test_dialects import ANSWER, DIALECTS, PROMPT

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "tiny"}


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with MockCollector() as upstream:
        there = {"endpoint": upstream.endpoint, "signals": ["traces", "logs", "metrics"]}
        with Relay(tmp_path, {"there": there}) as relay:
            yield relay


def opened(tab: Tab, trace_id: str = TRACE_ID) -> None:
    """Show a trace with its first span open."""
    tab.go(f"/traces/{trace_id}")
    tab.page.locator("#tree summary").first.click()
    tab.page.wait_for_selector("#tree .panel section, #tree .panel table")


def test_same_call_in_every_dialect_is_the_same_panel(relay: Relay, browser: Browser) -> None:
    with tab_on(browser, relay) as tab:
        for number, (values, more) in enumerate(DIALECTS.values(), 1):
            trace_id = f"{number:032x}"
            around = {key: more[key] for key in ("service", "scope") if key in more}
            made = llm_span(values, traceId=trace_id, events=more.get("events", []))
            assert relay.post(request(made, **around))[0] == 200
            if "logs" in more:
                records = [each | {"traceId": trace_id} for each in more["logs"]]
                entry = {"scopeLogs": [{"logRecords": records}]}
                assert relay.post({"resourceLogs": [entry]}, path="/v1/logs")[0] == 200
            opened(tab, trace_id)
            section = tab.page.locator(".genai")
            assert section.locator(".model").inner_text() == "tiny-1"
            assert section.locator(".tokens-in").inner_text() == "21"
            assert section.locator(".tokens-out").inner_text() == "30"
            texts = section.locator("pre").all_inner_texts()
            assert texts == [
                *("odd, no 7, no 13", ANSWER, '{"city":"Graz","days":2}'),
                *("Be brief.", PROMPT),
            ]
            assert section.locator(".tool").inner_text() == "weather"
        broken = llm_span(CHAT | {"gen_ai.prompt": '{"messages": [oops'}, traceId="f" * 32)
        assert relay.post(request(broken))[0] == 200
        opened(tab, "f" * 32)
        tab.see(".genai pre", '{"messages": [oops')
        tab.assert_clean()


def test_prompt_of_5_mb_and_an_image_are_cut_on_the_server_and_named(
    relay: Relay, browser: Browser
) -> None:
    long = "word " * 1_000_000 + "the very end"
    image = "data:image/png;base64," + base64.b64encode(b"\x89PNG" * 30_000).decode()
    content = [{"type": "text", "text": long}, {"type": "image_url", "image_url": {"url": image}}]
    prompt = json.dumps([{"role": "user", "content": content}])
    assert relay.post(request(llm_span(CHAT | {"gen_ai.prompt": prompt})))[0] == 200
    with tab_on(browser, relay) as tab:
        sizes: list[int] = []
        tab.page.on("response", lambda response: sizes.append(len(response.body())))
        opened(tab)
        tab.see(".genai .media", "image/png")
        tab.see(".genai .media", "117.2 KiB")
        assert "the very end" not in tab.page.content()
        assert image[:200] not in tab.page.content()
        assert max(sizes) < 300_000
        tab.page.locator(".genai .part > summary", has_text="5,000,012 characters").click()
        tab.page.locator(".genai .part details summary").first.click()
        tab.see(".genai .whole", "the very end")
        tab.assert_clean()


def test_call_without_contents_says_so_and_who_can_switch_them_on(
    relay: Relay, browser: Browser
) -> None:
    assert relay.post(request(llm_span(CHAT)))[0] == 200
    with tab_on(browser, relay) as tab:
        opened(tab)
        tab.see(".no-contents", "the sender recorded no contents")
        tab.see(".no-contents", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true")
        tab.assert_clean()


def test_trace_can_be_narrowed_to_the_steps_of_models_and_widened_again(
    relay: Relay, browser: Browser
) -> None:
    agent = CHAT | {"gen_ai.operation.name": "invoke_agent"}
    made = [
        span(spanId="00000000000000a1", name="POST /ask"),
        llm_span(agent, spanId="00000000000000a2", parentSpanId="00000000000000a1", name="agent"),
        span(spanId="00000000000000a3", parentSpanId="00000000000000a2", name="GET /cart"),
        llm_span(CHAT, spanId="00000000000000a4", parentSpanId="00000000000000a3", name="chat"),
    ]
    assert relay.post(request(*made))[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go(f"/traces/{TRACE_ID}")
        tab.see(".span-name", "GET /cart")
        tab.page.get_by_role("link", name="LLM steps only").click()
        tab.page.wait_for_selector("#tree:not(:has-text('GET /cart'))")
        assert tab.page.locator(".span-name").all_inner_texts() == ["agent", "chat"]
        tab.page.reload()
        tab.until_live()
        tab.see(".span-name", "chat")
        assert tab.page.locator(".span-name").all_inner_texts() == ["agent", "chat"]
        tab.page.get_by_role("link", name="all spans").click()
        tab.see(".span-name", "POST /ask")
        tab.assert_clean()


def calls() -> Json:
    """Three calls of two models, and an agent that repeats what its call told."""

    def usage(model: str, tokens_in: int, tokens_out: int, **more: Any) -> dict[str, Any]:
        return {
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": tokens_in,
            "gen_ai.usage.output_tokens": tokens_out,
            **more,
        }

    agent = usage("large", 100, 10) | {"gen_ai.operation.name": "invoke_agent"}
    first = usage("large", 100, 10) | {"gen_ai.operation.name": "chat", "user.id": "ann"}
    cost = {"gen_ai.usage.total_cost": 0.1}
    other = usage("large", 50, 5) | {"gen_ai.operation.name": "chat", "user.id": "bob"}
    other_cost = {"gen_ai.usage.total_cost": 0.2}
    free = usage("small", 7, 3) | {"gen_ai.operation.name": "chat", "user.id": "ann"}
    return request(
        llm_span(agent, spanId="00000000000000a1"),
        llm_span(first | cost, spanId="00000000000000a2", parentSpanId="00000000000000a1"),
        llm_span(other | other_cost, spanId="00000000000000a3", traceId="1" * 32),
        llm_span(free, spanId="00000000000000a4", traceId="2" * 32),
    )


def groups(tab: Tab) -> dict[str, list[str]]:
    rows = tab.page.locator("#groups tbody tr").all()
    found = {}
    for row in rows:
        cells = row.locator("td").all_inner_texts()
        found[row.locator("th").inner_text()] = [cells[at] for at in (0, 2, 4, 5, 6)]
    return found


def test_sums_by_model_and_by_user_are_those_that_were_sent_each_call_once(
    relay: Relay, browser: Browser
) -> None:
    assert relay.post(calls())[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go("/genai")
        assert tab.text("#calls") == "3"
        assert tab.text("#tokens-in") == "157"
        assert tab.text("#tokens-out") == "18"
        assert float(tab.text("#cost").removeprefix("$")) == pytest.approx(0.3, abs=1e-9)
        assert tab.text("#without-cost") == "1"
        assert groups(tab) == {
            "large": ["2", "150", "15", "$0.3", "0"],
            "small": ["1", "7", "3", "-", "1"],
        }
        tab.page.get_by_role("link", name="user", exact=True).click()
        tab.see("#groups th", "ann")
        assert groups(tab) == {
            "ann": ["2", "107", "13", "$0.1", "1"],
            "bob": ["1", "50", "5", "$0.2", "0"],
        }
        tab.assert_clean()


def test_log_records_of_a_trace_stand_below_its_spans_and_lead_there_from_the_logs(
    relay: Relay, browser: Browser
) -> None:
    assert relay.post(request(span()))[0] == 200
    record = {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "severityNumber": 17,
        "body": {"stringValue": "out of stock"},
        "attributes": [text_attribute("sku", "4711")],
    }
    entry = {"scopeLogs": [{"logRecords": [record]}]}
    assert relay.post({"resourceLogs": [entry]}, path="/v1/logs")[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go("/logs")
        tab.see("#logs td", "out of stock")
        tab.see("#logs .state", "error")
        tab.page.locator("#logs a", has_text="trace").click()
        tab.see("#trace-logs td", "out of stock")
        tab.assert_clean()
