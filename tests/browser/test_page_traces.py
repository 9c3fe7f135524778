"""Traces in the page: live without jumping, searched honestly, drawn to scale, however many."""

import json
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from mockcollector.script import refuse
from mockcollector.server import MockCollector
from tests.browser.tab import Tab, tab_on
from tests.support.builders import TRACE_ID, Json, request, span, text_attribute
from tests.support.relay_process import Relay, eventually

FIXTURES = Path(__file__).parent.parent / "fixtures"
MS = 1_000_000
GOLD = (17, 4_711, 9_998)
MANY = 10_000


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"there": {"endpoint": upstream.endpoint}}) as relay:
            yield relay


def trace(number: int, **members: Any) -> Json:
    """A trace of one span of now."""
    start = time.time_ns() - 10 * MS
    times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 5 * MS)}
    ids = {"traceId": f"{number:032x}", "spanId": f"{number:016x}"}
    return span(**(ids | times | {"name": f"op {number}"} | members))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay that keeps 10,000 traces, three of them golden, one of which failed slowly."""
    with MockCollector(keep="counts") as upstream:
        with Relay(
            tmp_path_factory.mktemp("full"), {"there": {"endpoint": upstream.endpoint}}
        ) as relay:
            for first in range(1, MANY + 1, 100):
                made = []
                for number in range(first, first + 100):
                    more: Json = {}
                    if number in GOLD:
                        more = {"attributes": [text_attribute("customer.tier", "gold")]}
                    if number == 500:
                        more = {
                            "attributes": [text_attribute("customer.tier", "silver")],
                            "status": {"code": 2},
                            "endTimeUnixNano": str(time.time_ns() + 3_000 * MS),
                        }
                    made.append(trace(number, **more))
                assert relay.post(request(*made))[0] == 200
            yield relay


def ids_in(tab: Tab) -> list[str]:
    return list(
        tab.page.evaluate("[...document.querySelectorAll('#traces tbody tr')].map(row => row.id)")
    )


def test_chat_posted_while_the_list_is_open_is_a_row_within_2_s_with_model_tokens_and_cost(
    relay: Relay, browser: Browser
) -> None:
    with tab_on(browser, relay) as tab:
        tab.go("/traces")
        tab.see("main", "No trace is kept")
        assert relay.post((FIXTURES / "08_openrouter_chat.json").read_bytes())[0] == 200
        tab.see("#traces tr", "LLM Generation", seconds=3)
        row = tab.text("#traces tbody tr")
        for words in ("openrouter", "example/tiny-chat", "21", "3", "$0.0000036"):
            assert words in row
        assert [each for each in tab.requests if each.is_navigation_request()][1:] == []
        tab.assert_clean()


def test_of_10_000_traces_each_is_met_once_while_more_arrive_and_the_first_page_is_quick(
    full: Relay, browser: Browser
) -> None:
    took = []
    token = (full.state_dir / "admin-token").read_text().strip()
    for _ in range(20):
        begin = time.monotonic()
        full.ask("GET", "/page/traces", parse=False)  # without a token: the connection alone
        middle = time.monotonic()
        fetched(full, "/page/traces", token)
        took.append(time.monotonic() - middle - (middle - begin))
    assert statistics.median(took) < 0.1

    stop = threading.Event()

    def arrive() -> None:
        number = 1_000_000
        while not stop.wait(0.1):
            number += 1
            full.post(request(trace(number)))

    sender = threading.Thread(target=arrive)
    sender.start()
    try:
        with tab_on(browser, full) as tab:
            tab.go("/traces")
            met: list[str] = []
            for _ in range(200):
                tab.page.wait_for_selector(".looked")
                rows = ids_in(tab)
                assert len(rows) <= 500
                met += rows
                older = tab.page.locator("a.older")
                if not older.count():
                    break
                href = older.get_attribute("href") or ""
                older.click()
                tab.page.wait_for_url(f"**{href}")
                expect(tab.page.locator(f"a.older[href='{href}']")).to_have_count(0)
            assert len(met) == len(set(met))
            wanted = {f"t-{number:032x}" for number in range(1, MANY + 1)}
            assert wanted <= set(met)
            tab.assert_clean()
    finally:
        stop.set()
        sender.join()


def fetched(relay: Relay, path: str, token: str) -> bytes:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_nothing_moves_under_a_reader_further_down_and_a_button_counts_what_is_new(
    relay: Relay, browser: Browser
) -> None:
    assert relay.post(request(*map(trace, range(1, 101))))[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go("/traces")
        tab.see("#traces a", "op 60")
        link = tab.page.get_by_role("link", name="op 60", exact=True)
        link.focus()
        tab.page.evaluate("scrollTo(0, 900)")
        eventually(lambda: tab.page.evaluate("scrollY > 500"))
        before = link.bounding_box()
        assert relay.post(request(*map(trace, range(201, 251))))[0] == 200
        tab.see("#new", "50 new")
        assert link.bounding_box() == before
        expect(link).to_be_focused()
        tab.page.locator("#new").click()
        tab.see("#traces a", "op 250")
        expect(tab.page.locator("#new")).to_be_hidden()
        assert tab.page.evaluate("scrollY") == 0
        tab.assert_clean()


def test_search_by_an_attribute_finds_exactly_those_says_how_far_it_looked_and_stays_in_the_address(
    full: Relay, browser: Browser
) -> None:
    with tab_on(browser, full) as tab:
        search(tab, "customer.tier=gold")
        found = follow(tab)
        assert sorted(found) == [f"t-{number:032x}" for number in GOLD]
        tab.see(".looked", "looked at all")
        search(tab, "customer.tier=gold")
        assert "q=customer.tier%3Dgold" in tab.page.url
        tab.page.reload()
        tab.see("h1", "customer.tier=gold")
        assert sorted(follow(tab)) == [f"t-{number:032x}" for number in GOLD]
        search(tab, "-customer.tier=gold error >500ms")
        assert follow(tab) == [f"t-{500:032x}"]
        tab.assert_clean()


def search(tab: Tab, text: str) -> None:
    tab.page.get_by_label("Search").fill(text)
    tab.page.get_by_label("Search").press("Enter")
    tab.see("h1 q", text)


def follow(tab: Tab) -> list[str]:
    """The rows of this page and of all older ones."""
    found: list[str] = []
    while True:
        tab.page.wait_for_selector(".looked")
        found += ids_in(tab)
        older = tab.page.locator("a.older")
        if not older.count():
            return found
        with tab.page.expect_response("**/page/traces?*"):
            older.click()
        eventually(lambda: not tab.page.locator(".htmx-request").count())


def tree() -> Json:
    start = time.time_ns()

    def at(own: int, parent: int | None, begin: int, end: int, **more: Any) -> Json:
        ids = {"spanId": f"{own:016x}", "parentSpanId": f"{parent:016x}" if parent else None}
        times = {
            "startTimeUnixNano": str(start + begin * MS),
            "endTimeUnixNano": str(start + end * MS),
        }
        return span(**(ids | times | {"name": f"span {own}"} | more))

    return request(
        at(3, 1, 600, 900, status={"code": 2, "message": "card declined"}),
        at(4, 2, 150, 250),
        at(1, None, 0, 1000),
        at(2, 1, 100, 500),
    )


def test_waterfall_is_in_tree_order_to_scale_and_says_in_words_what_failed(
    relay: Relay, browser: Browser
) -> None:
    assert relay.post(tree())[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go(f"/traces/{TRACE_ID}")
        tab.see(".span-name", "span 1")
        names = tab.page.locator(".span-name").all_inner_texts()
        assert names == ["span 1", "span 2", "span 4", "span 3"]
        boxes = [each.bounding_box() for each in tab.page.locator("#tree svg.bar").all()]
        bars = [each.bounding_box() for each in tab.page.locator("#tree svg.bar rect").all()]
        wanted = [(0.0, 1.0), (0.1, 0.4), (0.15, 0.1), (0.6, 0.3)]
        for box, bar, (begin, width) in zip(boxes, bars, wanted, strict=True):
            assert box is not None
            assert bar is not None
            assert (bar["x"] - box["x"]) / box["width"] == pytest.approx(begin, abs=0.01)
            assert bar["width"] / box["width"] == pytest.approx(width, abs=0.01)
        lefts = tab.page.evaluate(
            "[...document.querySelectorAll('.span-name')].map(n => n.getBoundingClientRect().x)"
        )
        assert lefts[0] < lefts[1] < lefts[2]
        assert lefts[3] == lefts[1]
        tab.see("#n-3 summary", "error")
        tab.see("#n-3 summary", "card declined")
        tab.assert_clean()


def test_child_before_its_root_says_that_its_parent_is_missing_and_then_is_one_tree(
    relay: Relay, browser: Browser
) -> None:
    child = span(spanId="00000000000000c1", parentSpanId="00000000000000a1", name="child")
    assert relay.post(request(child))[0] == 200
    with tab_on(browser, relay) as tab:
        tab.go(f"/traces/{TRACE_ID}")
        tab.see("#tree summary", "parent not received")
        assert relay.post(request(span(spanId="00000000000000a1", name="root")))[0] == 200
        tab.see("#tree summary", "root")
        assert tab.page.locator(".span-name").all_inner_texts() == ["root", "child"]
        assert "parent not received" not in tab.text()
        tab.assert_clean()


def test_trace_of_5_000_spans_is_there_quickly_and_can_be_searched_folded_and_walked_through(
    relay: Relay, browser: Browser
) -> None:
    root = span(spanId=f"{1:016x}", name="root")
    for first in range(2, 5_001, 500):
        made = [
            span(spanId=f"{at:016x}", parentSpanId=f"{1:016x}", name=f"step {at} of it")
            for at in range(first, min(first + 500, 5_001))
        ]
        assert relay.post(request(*made, *([root] if first == 2 else [])))[0] == 200
    with tab_on(browser, relay) as tab:
        begin = time.monotonic()
        tab.go(f"/traces/{TRACE_ID}")
        tab.see(".span-name", "root")
        assert time.monotonic() - begin < 1.5
        assert tab.page.evaluate("window.find('step 2 of it')")
        tab.page.get_by_label("Find in this trace").fill("step")
        tab.page.get_by_label("Find in this trace").press("Enter")
        tab.see("#found", "4,999 of 5,000")
        tab.page.get_by_label("Find in this trace").fill("name:4321")
        tab.page.get_by_label("Find in this trace").press("Enter")
        tab.see("#found", "1 of 5,000")
        tab.page.get_by_role("button", name="Next match").click()
        tab.see("#tree .here", "step 4321 of it")
        expect(tab.page.locator("#tree .here")).to_be_in_viewport()
        tab.go(f"/traces/{TRACE_ID}")
        tab.page.get_by_role("button", name="Collapse all").click()
        assert tab.page.locator("#tree > li:visible").count() == 1
        tab.page.get_by_role("button", name="Expand all").click()
        assert tab.page.locator("#tree > li:visible").count() >= 200
        tab.assert_clean()


def test_way_says_of_each_destination_what_where_says(browser: Browser, tmp_path: Path) -> None:
    with MockCollector() as good, MockCollector() as away, MockCollector() as strict:
        away.script.replace(refuse(503, message="closed for lunch", times=None))
        strict.script.replace(refuse(413, message="no such dataset", times=None))
        destinations = {
            "good": {"endpoint": good.endpoint},
            "away": {"endpoint": away.endpoint},
            "strict": {"endpoint": strict.endpoint},
        }
        with Relay(tmp_path, destinations) as relay, tab_on(browser, relay) as tab:
            assert relay.post(request(span()))[0] == 200

            def where() -> dict[str, Any]:
                found = json.loads(relay.run("where", TRACE_ID, "--json").stdout)
                return {each["name"]: each for each in found["destinations"]}

            eventually(
                lambda: (
                    [where()[name]["state"] for name in destinations]
                    == ["delivered", "waiting", "set_aside"]
                )
            )
            tab.go(f"/traces/{TRACE_ID}")
            for name, wanted in where().items():
                line = tab.page.locator(f".way li[data-destination={name}]")
                expect(line.locator(".state")).to_have_text(wanted["state"].replace("_", " "))
                times = [each.get_attribute("datetime") for each in line.locator("time").all()]
                if wanted["at"]:
                    assert wanted["at"] in times
                    assert str(wanted["status"]) in line.inner_text()
                else:
                    assert wanted["waiting_since"] in times
            tab.see("[data-destination=away] .words", "closed for lunch")
            tab.see("[data-destination=strict] .words", "no such dataset")
            tab.assert_clean()
