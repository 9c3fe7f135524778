"""A tab of a real browser on the page, which remembers whatever the page must never do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

from tests.support.relay_process import Relay

FLAGS = [
    *("--no-sandbox", "--disable-quic", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]
WATCH_POLICY = """
window.violations = []
addEventListener('securitypolicyviolation', event =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`))
"""
SECONDS = 10


def chromium(playwright: Playwright) -> Browser:
    """Debian's, since none is downloaded."""
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)


def address(relay: Relay) -> str:
    """What `otlp-relay open --print` prints."""
    done = relay.run("open", "--print")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Tab:
    """One tab; `page` is Playwright's."""

    def __init__(self, context: BrowserContext, relay: Relay) -> None:
        self.origin = f"http://127.0.0.1:{relay.admin_port}"
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.add_init_script(WATCH_POLICY)
        self.said: list[str] = []
        self.requests: list[Request] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"thrown: {error}"))
        self.page.on("request", self._note)
        self.page.on("response", self._look)
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _look(self, response: Any) -> None:
        if response.status >= 400:
            self.said.append(f"{response.status} {response.url}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print("--- the tab said ---", *self.said, sep="\n")
            print(self.page.url, self.page.inner_text("main")[:3000])
        self.page.close()

    def open(self, url: str) -> None:
        """Go there, and wait until its stream runs."""
        self.page.goto(url)
        self.until_live()

    def until_live(self) -> None:
        """Until the event stream runs."""
        self.see("#link", "live")

    def go(self, path: str) -> None:
        """Another screen, as a link leads there; until it is shown."""
        before = self.page.evaluate("document.querySelector('#screen').firstElementChild?.id")
        assert before != "token-form", "no token"
        self.page.evaluate(
            "path => { const link = document.createElement('a'); link.href = path;"
            " document.querySelector('#screen [data-on]')?.remove();"
            " document.querySelector('#screen').append(link); link.click() }",
            path,
        )
        self.page.wait_for_selector("#screen [data-on]", state="attached")

    def see(self, selector: str, words: str | re.Pattern[str], seconds: float = SECONDS) -> None:
        """Wait until one that matches holds these words."""
        found = self.page.locator(selector).filter(has_text=words).first
        found.wait_for(state="visible", timeout=seconds * 1000)

    def text(self, selector: str = "main") -> str:
        """What is to be read there."""
        return self.page.inner_text(selector)

    def assert_clean(self) -> None:
        """Nothing was violated, thrown or said, and nobody else was asked for anything."""
        assert self.page.evaluate("violations") == []
        assert self.said == []
        origins = {urlsplit(each.url)[:2] for each in self.requests}
        assert origins == {urlsplit(self.origin)[:2]}


@contextmanager
def tab_on(browser: Browser, relay: Relay, **options: Any) -> Iterator[Tab]:
    """A tab of a fresh profile that has the token and shows the flow."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    try:
        with Tab(context, relay) as tab:
            tab.open(address(relay))
            yield tab
    finally:
        context.close()
