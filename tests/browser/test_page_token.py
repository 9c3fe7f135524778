"""The page shows nothing without the token, hands it to nobody, and takes no orders from others."""

import http.client
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from mockcollector.server import MockCollector
from tests.browser.tab import Tab, address, tab_on
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

SCREENS = (
    *("/", "/traces", "/logs", "/metrics-view", "/genai", "/sessions/s-1", "/setup"),
    *("/destinations/there", "/rejected"),
)
FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with MockCollector() as upstream:
        there = {"endpoint": upstream.endpoint, "signals": ["traces", "logs", "metrics"]}
        with Relay(tmp_path_factory.mktemp("relay"), {"there": there}) as relay:
            for path in sorted(FIXTURES.glob("7*.json")):
                words = path.name.split(".")
                if "expect" not in words:
                    relay.post(path.read_bytes(), path=f"/v1/{words[-2]}")
            assert relay.post(request(span(name="the secret span")))[0] == 200
            yield relay


def ask(
    relay: Relay, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", relay.admin_port, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def test_without_a_token_every_screen_is_the_same_empty_shell_that_asks_for_it(
    relay: Relay, browser: Browser
) -> None:
    shells = {
        ask(relay, path)[2] for path in (*SCREENS, "/traces/0af7651916cd43dd8448eb211c80319c")
    }
    assert len(shells) == 1
    status, headers, text = ask(relay, "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "the secret span" not in text
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-" not in policy
    assert "data:" not in policy
    assert not any(name.lower() == "set-cookie" for name in headers)

    context = browser.new_context()
    with Tab(context, relay) as tab:
        tab.page.goto(tab.origin)
        tab.page.get_by_label("Token").wait_for()
        assert tab.page.get_by_label("Token").count() == 1
        paths = [each.url.removeprefix(tab.origin) for each in tab.requests]
        assert [path for path in paths if path.startswith(("/api", "/page"))] == []
        tab.page.get_by_label("Token").fill("wrong")
        tab.page.get_by_role("button", name="Open").click()
        tab.see("#notice", "not the one of this relay")
        known = (relay.state_dir / "admin-token").read_text().strip()
        tab.page.get_by_label("Token").fill(known)
        tab.page.get_by_role("button", name="Open").click()
        tab.see("h2", "Destinations")
    context.close()


def test_address_of_open_shows_the_flow_and_the_token_stays_in_this_browser(
    relay: Relay, browser: Browser
) -> None:
    url = address(relay)
    token = url.partition("#token=")[2]
    assert len(token) == 43
    context = browser.new_context()
    with Tab(context, relay) as tab, Tab(context, relay) as second:
        tab.open(url)
        tab.see("h2", "Destinations")
        assert tab.page.evaluate("location.hash") == ""
        second.open(f"{tab.origin}/traces")
        second.see("td", "the secret span")
        tab.page.reload()
        tab.see("h2", "Destinations")
        for each in tab.requests + second.requests:
            assert token not in each.url.partition("#")[0]
            assert token not in str({**each.headers, "authorization": ""})
        assert context.cookies() == []
    context.close()


def test_whole_tour_breaks_no_policy_says_no_error_and_asks_nobody_else(
    relay: Relay, browser: Browser
) -> None:
    with tab_on(browser, relay) as tab:
        for path in (*SCREENS, "/setup?preset=axiom", "/destinations/ingest", "/traces?q=secret"):
            if path != "/sessions/s-1":
                tab.go(path)
        tab.go("/genai?by=session")
        tab.page.locator("#groups a").first.click()
        tab.see("caption", "What happened, in order")
        tab.go("/traces")
        tab.page.get_by_role("link", name="the secret span").click()
        tab.page.locator("#tree summary").first.click()
        tab.see("caption", "Resource")
        tab.assert_clean()


def test_foreign_hosts_missing_tokens_other_sites_and_frames_are_refused(
    relay: Relay, browser: Browser
) -> None:
    assert ask(relay, "/", headers={"Host": "relay.example"})[0] == 421
    for path in ("/page/flow", "/page/traces", "/api/status", "/api/view/traces"):
        status, _headers, text = ask(relay, path)
        assert status == 401
        assert "the secret span" not in text
    token = (relay.state_dir / "admin-token").read_text().strip()
    mine = {"Authorization": f"Bearer {token}"}
    pause = "/api/destinations/there/pause"
    for foreign in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
    ):
        assert ask(relay, pause, "POST", mine | foreign)[0] == 403
    assert relay.get("/api/destinations/there")[1]["is_paused"] is False

    context = browser.new_context()
    page = context.new_page()
    framed = f"http://127.0.0.1:{relay.admin_port}/"
    page.set_content(f"<iframe src='{framed}'></iframe>")
    eventually(lambda: len(page.frames) == 2)
    page.wait_for_load_state("networkidle")
    assert page.frames[1].locator("#screen").count() == 0
    context.close()
