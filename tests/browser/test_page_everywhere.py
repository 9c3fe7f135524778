"""The page for everybody: wide and narrow, in both schemes, by keyboard, and without the relay."""

import base64
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from mockcollector.script import refuse
from mockcollector.server import MockCollector
from tests.browser.tab import Tab, tab_on
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PICTURES = ROOT / "docs" / "pictures"
FIXTURES = HERE.parent / "fixtures"
AXE = (HERE / "vendor" / "axe-4.14.1.min.js").read_text()
CHAT = "c0ffee00c0ffee00c0ffee00c0ffee01"
SCREENS = {
    "flow": "/",
    "traces": "/traces",
    "trace": f"/traces/{CHAT}",
    "genai": "/genai",
    "rejected": "/rejected",
    "destination": "/destinations/jaeger",
    "logs": "/logs",
    "metrics": "/metrics-view",
    "setup": "/setup?preset=axiom",
}
# Taken anew with PICTURES=1.
PICTURED = ("flow", "traces", "trace", "genai", "destination")
WIDTHS = {"narrow": 380, "wide": 1440}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay that has everything to show: one upstream takes it, one refuses."""
    with MockCollector() as good, MockCollector() as bad:
        bad.script.replace(refuse(401, message="invalid API key", times=None))
        destinations: dict[str, dict[str, Any]] = {
            "axiom": {"endpoint": good.endpoint, "signals": ["traces", "logs", "metrics"]},
            "jaeger": {"endpoint": bad.endpoint},
        }
        with Relay(tmp_path_factory.mktemp("relay"), destinations) as relay:
            for path in sorted(FIXTURES.glob("*.json")):
                words = path.name.split(".")
                signal = words[-2] if words[-2] in ("logs", "metrics") else "traces"
                if "expect" not in words:
                    relay.post(path.read_bytes(), path=f"/v1/{signal}")
            eventually(lambda: relay.destination("jaeger")["state"] == "blocked")
            yield relay


def findings(tab: Tab) -> list[str]:
    """What axe finds serious or critical."""
    if not tab.page.evaluate("'axe' in window"):
        tab.page.evaluate(AXE)
    found = tab.page.evaluate("axe.run()")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_every_screen_is_accessible_and_fits_in_both_schemes_and_widths(
    relay: Relay, browser: Browser, scheme: str, size: str
) -> None:
    viewport = {"width": WIDTHS[size], "height": 900}
    with tab_on(browser, relay, viewport=viewport, color_scheme=scheme) as tab:
        for name, path in SCREENS.items():
            tab.go(path)
            if name == "trace":
                tab.page.locator("#tree summary").first.click()
                tab.see(".genai", "example/tiny-chat")
                tab.page.evaluate("scrollTo(0, 0)")
            assert findings(tab) == [], name
            width = tab.page.evaluate("document.documentElement.scrollWidth")
            assert width <= WIDTHS[size], name
            if name in PICTURED and os.environ.get("PICTURES"):
                tab.page.screenshot(path=PICTURES / f"{name}-{size}-{scheme}.png")
        tab.assert_clean()


def test_lines_stay_sensible_on_2_000_pixels(relay: Relay, browser: Browser) -> None:
    with tab_on(browser, relay, viewport={"width": 2000, "height": 1000}) as tab:
        for path in SCREENS.values():
            tab.go(path)
            widest = tab.page.evaluate(
                "Math.max(...[...document.querySelectorAll('main p, main')]"
                ".map(each => each.getBoundingClientRect().width))"
            )
            assert widest <= 1800
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= 2000


def test_whole_page_is_gone_through_by_keyboard_with_focus_in_sight(
    relay: Relay, browser: Browser
) -> None:
    with tab_on(browser, relay) as tab:
        keyboard = tab.page.keyboard
        reached = []
        for _ in range(12):
            keyboard.press("Tab")
            reached.append(tab.page.evaluate("document.activeElement.textContent.trim()"))
            outline = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
        assert [each for each in reached if each in ("Traces", "GenAI", "Rejected")] == [
            *("Traces", "GenAI", "Rejected")
        ]
        keyboard.press("/")
        expect(tab.page.get_by_label("Search")).to_be_focused()
        keyboard.type("service:openrouter Generation")
        keyboard.press("Enter")
        tab.see("#traces a", "LLM Generation")
        expect(tab.page.locator("#screen")).to_be_focused()
        keyboard.press("j")
        keyboard.press("Enter")
        tab.see("#tree", "LLM Generation")
        expect(tab.page.locator("#screen")).to_be_focused()
        keyboard.press("j")
        keyboard.press("Enter")
        tab.see(".genai", "example/tiny-chat")
        tab.assert_clean()


def test_change_of_a_state_is_announced(browser: Browser, tmp_path: Path) -> None:
    with MockCollector() as upstream:
        upstream.script.replace(refuse(401, times=None))
        with Relay(tmp_path, {"there": {"endpoint": upstream.endpoint}}) as relay:
            with tab_on(browser, relay) as tab:
                assert tab.page.get_attribute("#said", "aria-live") == "polite"
                assert relay.post(request(span()))[0] == 200
                eventually(lambda: "there, traces: blocked 401" in tab.text("#said"))


def test_relay_that_stops_is_told_of_within_3_s_and_the_page_comes_back_by_itself(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream:
        with Relay(tmp_path, {"there": {"endpoint": upstream.endpoint}}) as relay:
            assert relay.post(request(span(name="before")))[0] == 200
            with tab_on(browser, relay) as tab:
                tab.go("/traces?q=before")
                link = tab.page.get_by_role("link", name="before", exact=True)
                link.focus()
                relay.stop()
                tab.see("#link", "not reachable since", seconds=3)
                expect(link).to_be_focused()
                relay.start()
                tab.see("#link", re.compile("^live$"))
                expect(link).to_be_focused()
                assert (
                    relay.post(request(span(traceId="2" * 32, name="before and after")))[0] == 200
                )
                tab.see("#traces a", "before and after")


def test_one_stream_a_tab_which_ends_when_the_tab_is_hidden(relay: Relay, browser: Browser) -> None:
    with tab_on(browser, relay) as tab:
        for path in ("/traces", "/logs", "/"):
            tab.go(path)
        streams = [each for each in tab.requests if each.url.endswith("/api/view/events")]
        assert len(streams) == 1
        ended: list[str] = []
        for name in ("requestfinished", "requestfailed"):
            tab.page.on(name, lambda each: ended.append(each.url))
        tab.page.evaluate(
            "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            " document.dispatchEvent(new Event('visibilitychange')) }"
        )
        eventually(lambda: tab.page.evaluate("1") and streams[0].url in ended, seconds=5)
        again = [each for each in tab.requests if each.url.endswith("/api/view/events")]
        assert len(again) == 1


def test_click_is_answered_within_200_ms_while_1_000_spans_a_second_arrive(
    relay: Relay, browser: Browser
) -> None:
    stop = threading.Event()
    made = [span(spanId=f"{at:016x}", traceId=f"{at:032x}") for at in range(1, 101)]

    def arrive() -> None:
        while not stop.wait(0.1):
            relay.post(request(*made))

    sender = threading.Thread(target=arrive)
    sender.start()
    try:
        with tab_on(browser, relay) as tab:
            took = []
            for path in ("/traces", "/", "/traces", "/rejected", "/traces"):
                with tab.page.expect_response(lambda each: "/page/" in each.url) as caught:
                    tab.go(path)
                timing = caught.value.request.timing
                took.append(timing["responseStart"] - timing["requestStart"])
            assert sorted(took)[len(took) // 2] < 200
            tab.assert_clean()
    finally:
        stop.set()
        sender.join()


def test_vendored_files_are_those_of_the_packages_and_our_script_is_short() -> None:
    lock = (ROOT / "scripts" / "vendor.lock").read_text()
    for line in lock.splitlines():
        if not line.startswith("#"):
            _package, integrity, *files = line.split()
            assert len(base64.b64decode(integrity.removeprefix("sha512-"))) == 64
            for name in files:
                _path, where, digest = re.split("[=:]", name)
                assert hashlib.sha256((ROOT / where).read_bytes()).hexdigest() == digest, where
    script = (ROOT / "relay" / "page" / "static" / "page.js").read_text()
    assert len(script.splitlines()) <= 250
