"""Web exporters of two generations, in a real browser, to the relay to a mock collector.

The older one sends by `navigator.sendBeacon`, always with credentials; by XMLHttpRequest once it
has headers. The newer one sends by `fetch`. The page is never of the relay's own origin.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mockcollector.server import MockCollector
from tests.browser.chromium import Chromium, Page
from tests.browser.site import Site
from tests.e2e.sender_builds import WEB, built
from tests.support.certificates import make_authority
from tests.support.relay_process import Relay, eventually

ARRIVAL_SECONDS = 20
TOKEN = "kept-by-the-page"
# With an icon, since browsers ask for one.
HTML = (
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    '<script src="/page.js"></script>'
)


class Way(NamedTuple):
    """How an exporter sends: its generation and the headers of its own that it is given."""

    generation: str
    headers: dict[str, str] | None = None


WAYS = {
    "sendBeacon": Way("beacon"),
    "XMLHttpRequest": Way("beacon", {"Authorization": f"Bearer {TOKEN}"}),
    "fetch": Way("fetch"),
    "fetch with a token": Way("fetch", {"Authorization": f"Bearer {TOKEN}"}),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


@contextmanager
def site_of(way: Way, certificate: tuple[str, str] | None = None) -> Iterator[Site]:
    """A web site whose page has an exporter."""
    script = (built(WEB) / "dist" / way.generation / "page.js").read_bytes()
    with Site({"/": HTML.encode(), "/page.js": script}, certificate) as site:
        yield site


@contextmanager
def relay_for(folder: Path, way: Way, origin: str) -> Iterator[tuple[Relay, MockCollector]]:
    """A running relay that pages of `origin` may post to, and what it delivers to.

    It asks for a token where the exporter has one.
    """
    tokens = [TOKEN] if way.headers else []
    with MockCollector() as upstream:
        relay = Relay(folder, {"mock": {"endpoint": upstream.endpoint}})
        keys = f"[ingest]\ncors_origins = ['{origin}']\ntokens = {tokens}\n"
        relay.config.write_text(relay.config.read_text().replace("[ingest]\n", keys))
        with relay:
            yield relay, upstream


def sending(way: Way, relay: Relay) -> str:
    """What makes the page's exporter send: comes to the trace's id and what went wrong."""
    options: dict[str, Any] = {"url": f"http://127.0.0.1:{relay.ingest_port}/v1/traces"}
    if way.headers:
        options["headers"] = way.headers
    return f"send({json.dumps(options)})"


def assert_delivered(page: Page, way: Way, relay: Relay, upstream: MockCollector) -> None:
    """What the page sends arrives whole, and nobody has anything to complain of."""
    sent = page.evaluate(sending(way, relay))
    upstream.journal.wait_for_spans(1, timeout=ARRIVAL_SECONDS)

    (arrived,) = upstream.journal.spans()
    assert (arrived.trace_id, arrived.name) == (sent["traceId"], "click")
    assert arrived.attributes == {"text": "Grüße, 世界 🚀"}
    assert sent["error"] == ""
    assert page.console() == []
    assert relay.status()["ingest"]["refused"] == {}


@every_way
def test_page_of_the_very_origin_delivers_its_spans(page: Page, way: Way, tmp_path: Path) -> None:
    with site_of(way) as site, relay_for(tmp_path, way, site.origin()) as (relay, upstream):
        page.open(site.origin())
        assert_delivered(page, way, relay, upstream)


@every_way
def test_page_of_any_origin_delivers_its_spans(page: Page, way: Way, tmp_path: Path) -> None:
    with site_of(way) as site, relay_for(tmp_path, way, "*") as (relay, upstream):
        page.open(site.origin("shop.example"))
        assert_delivered(page, way, relay, upstream)


@every_way
def test_page_of_a_name_below_delivers_its_spans(page: Page, way: Way, tmp_path: Path) -> None:
    issued = make_authority(tmp_path).issue("site", host="app.shop.example")
    with site_of(way, issued) as site:
        pattern = site.origin("*.shop.example")
        with relay_for(tmp_path, way, pattern) as (relay, upstream):
            page.open(site.origin("app.shop.example"))
            assert_delivered(page, way, relay, upstream)


@every_way
def test_page_of_another_origin_sends_nothing_and_the_relay_tells_whose_it_is(
    page: Page, way: Way, tmp_path: Path
) -> None:
    with site_of(way) as site:
        stranger = site.origin("stranger.example")
        with relay_for(tmp_path, way, site.origin()) as (relay, upstream):
            page.open(stranger)
            # Not waited for: the newer generation tries again for ten seconds.
            page.evaluate(f"void {sending(way, relay)}")
            (refused,) = eventually(lambda: relay.status()["ingest"]["refused_last_hour"])

            assert (refused["reason"], upstream.journal.spans()) == ("cors", [])
            assert stranger in refused["message"]
            assert relay.status()["ingest"]["received_bytes"] == 0
            eventually(lambda: any("CORS policy" in line for line in page.console()))


@pytest.mark.parametrize("way", [WAYS["sendBeacon"], WAYS["fetch"]], ids=["sendBeacon", "fetch"])
def test_page_of_a_public_site_delivers_its_spans_once_the_user_lets_it_reach_this_host(
    way: Way, tmp_path: Path
) -> None:
    """Without that the browser sends nothing at all, so the relay cannot tell of it."""
    issued = make_authority(tmp_path).issue("site", host="shop.example")
    with site_of(way, issued) as site, relay_for(tmp_path, way, "*") as (relay, upstream):
        is_public = f"--ip-address-space-overrides=127.0.0.1:{site.port}=public"
        with Chromium(tmp_path, is_public) as browser:
            with browser.page() as kept_out:
                kept_out.open(site.origin("shop.example"))
                kept_out.evaluate(f"void {sending(way, relay)}")
                eventually(lambda: any("loopback" in line for line in kept_out.console()))
                assert relay.status()["ingest"]["refused_last_hour"] == []
            with browser.page() as let_in:
                let_in.permit("loopback-network")
                let_in.open(site.origin("shop.example"))
                assert_delivered(let_in, way, relay, upstream)
