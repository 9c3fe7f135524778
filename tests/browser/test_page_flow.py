"""What is wrong is on the page at once, in the upstream's words, and can be mended there."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from mockcollector.script import partial, refuse
from mockcollector.server import MockCollector
from tests.browser.tab import Tab, tab_on
from tests.support.builders import request, span
from tests.support.relay_process import Relay, eventually

WORDS = "the key ended in May"
SECRET = "s3cret-of-the-upstream"


def spans(number: int, first: int = 1) -> Any:
    return request(
        *(span(spanId=f"{at:016x}", name=f"op {at}") for at in range(first, first + number))
    )


@contextmanager
def shown(
    browser: Browser, folder: Path, upstream: MockCollector, **keys: Any
) -> Iterator[tuple[Tab, Relay]]:
    there = {"endpoint": upstream.endpoint, **keys}
    with Relay(folder, {"there": there}) as relay, tab_on(browser, relay) as tab:
        yield tab, relay


def test_refusing_destination_is_named_within_2_s_with_its_own_words_and_resumes_when_mended(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream, shown(browser, tmp_path, upstream) as (tab, relay):
        upstream.script.replace(refuse(401, message=WORDS, times=None))
        assert relay.post(spans(7))[0] == 200
        tab.see("#d-there .state", "blocked", seconds=3)
        tab.see("#d-there .waiting", "7")
        tab.see(".wrong", "there")
        tab.see(".wrong", "401")
        tab.see(".wrong", WORDS)

        upstream.script.clear()
        tab.page.get_by_role("button", name="Resume there").click()
        tab.see("#d-there .state", "delivering", seconds=5)
        expect(tab.page.locator("#d-there .waiting")).to_have_text("0")
        assert tab.page.locator(".wrong").count() == 0
        assert upstream.journal.counts.spans_accepted == 7
        assert upstream.journal.duplicate_spans == 0
        assert [each for each in tab.requests if each.is_navigation_request()][1:] == []
        tab.assert_clean()


def test_rejected_span_is_shown_within_2_s_with_reason_place_and_sender_and_opens_as_it_was_sent(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream, shown(browser, tmp_path, upstream) as (tab, relay):
        tab.go("/rejected")
        tab.see("main", "Nothing was rejected")
        sender = {"User-Agent": "trial/1.0"}
        wrong = request(span(), span(traceId="app_trace_1", name="the malformed one"))
        assert relay.post(wrong, headers=sender)[0] == 200
        tab.see("#rejected td", "trace_id_malformed", seconds=3)
        tab.see("#rejected td", "resourceSpans[0].scopeSpans[0].spans[1].traceId")
        tab.see("#rejected td", "127.0.0.1")
        tab.see("#rejected td", "trial/1.0")
        tab.page.locator("#rejected summary").click()
        tab.see("#rejected pre", "the malformed one")
        tab.assert_clean()


def test_dead_letter_is_replayed_once_and_discarded_only_after_a_question(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream, shown(browser, tmp_path, upstream) as (tab, relay):
        upstream.script.replace(partial(1, "no such dataset"))
        assert relay.post(spans(1))[0] == 200
        tab.go("/destinations/there")
        tab.see("#groups td", "no such dataset")
        tab.page.get_by_role("button", name="Replay").click()
        tab.see("main", "None.")
        upstream.journal.wait_for_spans(1)
        eventually(lambda: relay.owed("there") == 0)
        assert upstream.journal.counts.spans_accepted == 1

        upstream.script.replace(partial(1, "still none"))
        assert relay.post(spans(1, first=2))[0] == 200
        tab.see("#groups td", "still none")
        discard = tab.page.get_by_role("button", name="Discard")
        discard.click()
        tab.see("#ask", "cannot be brought back")
        tab.page.keyboard.press("Escape")
        expect(tab.page.locator("#ask")).to_be_hidden()
        expect(discard).to_be_focused()
        tab.see("#groups td", "still none")
        discard.click()
        tab.page.get_by_role("button", name="Do it").click()
        tab.see("main", "None.")
        assert relay.get("/api/dead-letters")[1]["letters"] == []
        tab.assert_clean()


def test_what_is_kept_is_sent_again_after_a_look_at_what_that_would_be(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector() as upstream, shown(browser, tmp_path, upstream) as (tab, relay):
        assert relay.post(spans(3))[0] == 200
        upstream.journal.wait_for_spans(3)
        eventually(lambda: relay.owed("there") == 0)
        tab.go("/destinations/there")
        tab.page.get_by_label("or of one trace").fill("f" * 32)
        tab.page.get_by_role("button", name="Look").click()
        tab.see("#replay-found", "Nothing of that is kept")
        tab.page.get_by_label("or of one trace").fill("")
        tab.page.get_by_label("What was received in the last").select_option("hour")
        tab.page.get_by_role("button", name="Look").click()
        tab.see("#replay-found", "3 of traces in 1 row,")
        assert upstream.journal.counts.spans_accepted == 3
        tab.page.get_by_role("button", name="Send again").click()
        eventually(lambda: upstream.journal.counts.spans_accepted == 6)
        tab.see("#said", "sending again")
        tab.assert_clean()


def test_destination_tells_what_its_steps_filtered_and_changed(
    browser: Browser, tmp_path: Path
) -> None:
    keys = {"match": 'name != "op 2"', "redact": {"patterns": ["/op/"]}}
    with MockCollector() as upstream, shown(browser, tmp_path, upstream, **keys) as (tab, relay):
        assert relay.post(spans(3))[0] == 200
        upstream.journal.wait_for_spans(2)
        eventually(lambda: relay.owed("there") == 0)
        tab.go("/destinations/there")
        tab.see(".figures", "Filtered by match")
        assert tab.text(".filtered") == "1"
        tab.see(".figures", "Changed by redact")
        assert tab.text(".changed") == "2"
        tab.assert_clean()


def test_connection_test_shows_its_steps_as_they_happen_with_a_remedy_and_no_secret(
    browser: Browser, tmp_path: Path
) -> None:
    keys = {"headers": {"Authorization": f"Bearer {SECRET}"}}
    with MockCollector() as upstream, shown(browser, tmp_path, upstream, **keys) as (tab, _relay):
        tab.go("/destinations/there")
        upstream.script.replace("hang,401*")
        tab.page.get_by_role("button", name="Test", exact=True).click()
        tab.see("#steps li", "traces name ok")
        tab.see("#steps li", "traces tcp ok")
        assert tab.page.locator("#steps li", has_text="auth").count() == 0
        upstream.release()
        tab.see("#steps li.ok", "passed")
        tab.page.get_by_role("button", name="Test", exact=True).click()
        tab.see("#steps li.failed", "traces auth failed")
        tab.see("#steps li.failed", "401")
        tab.see("#steps li.failed", "token")
        assert SECRET not in tab.page.content()
        assert "Authorization" in tab.text("#settings ~ table")
        tab.assert_clean()


def test_destination_of_a_preset_is_saved_only_with_the_right_token_and_is_in_the_flow_at_once(
    browser: Browser, tmp_path: Path
) -> None:
    with MockCollector(profile="honeycomb", token=SECRET) as vendor, MockCollector() as upstream:
        with shown(browser, tmp_path, upstream) as (tab, relay):
            file = tmp_path / "destinations.d" / "honeycomb.toml"
            tab.go("/setup?preset=honeycomb")
            tab.page.get_by_label("Endpoint").fill(vendor.endpoint)
            secret = tab.page.locator("input[type=password]")
            secret.fill("a-wrong-token")
            tab.page.get_by_role("button", name="Test and add").click()
            tab.see("#steps li.failed", "401")
            assert not file.exists()
            assert "a-wrong-token" not in tab.page.content()

            secret.fill(SECRET)
            tab.page.get_by_role("button", name="Test and add").click()
            tab.see("#steps li.ok", "saved")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert SECRET not in tab.page.content()
            tab.page.get_by_role("link", name="Flow", exact=True).click()
            tab.see("#d-honeycomb", "honeycomb")
            assert SECRET not in json.dumps(relay.status())
            assert [each for each in tab.requests if each.is_navigation_request()][1:] == []
            tab.assert_clean()
