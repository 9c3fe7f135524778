"""A headless Chromium that tests drive: pages, what they evaluate to, what they print, pictures.

It speaks the DevTools protocol over two pipes, one JSON document and a zero byte at a time, so it
needs neither a library nor a port, and ends when its pipes close.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.relay_process import PASS_ON, eventually

SECONDS = 30.0
PROGRAM = "chromium"
FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",  # /dev/shm of a container is too small for it
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--ignore-certificate-errors",
)


class ChromiumError(Exception):
    """Chromium is missing, ended, did not answer in time, or refused a command."""


class Chromium:
    """One browser with an empty profile. Names below `.example` lead to 127.0.0.1."""

    def __init__(self, folder: Path, *more_flags: str) -> None:
        found = shutil.which(PROGRAM)
        if found is None:
            raise ChromiumError(f"{PROGRAM} is not on the PATH; run scripts/chromium")
        self._buffer = bytearray()
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._last_id = 0
        its_input, self._input = os.pipe()
        self._output, its_output = os.pipe()
        # Root has no sandbox; the pages of the tests are our own.
        flags = (*FLAGS, *more_flags, *(("--no-sandbox",) if os.geteuid() == 0 else ()))
        self._log = folder / "chromium.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", PASS_ON, str(its_input), str(its_output), "--", found),
                    *flags,
                    f"--user-data-dir={folder / 'profile'}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(its_input, its_output),
            )
        os.close(its_input)
        os.close(its_output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._input)
        os.close(self._output)
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def page(self) -> "Page":
        """An empty page that shares no cookies and no cache with any other."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Page(self, attached["sessionId"], context)

    def call(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of a command. Raises ChromiumError."""
        self._last_id += 1
        number = self._last_id
        command = {"id": number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self._input, json.dumps(command).encode() + b"\0")
        self.read_until(lambda: number in self._answers, what=method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise ChromiumError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def events(self, session: str) -> list[dict[str, Any]]:
        """What a session was told so far, the latest last."""
        return self._events.setdefault(session, [])

    def read_until(self, is_there: Callable[[], bool], *, what: str) -> None:
        """Take in what the browser says. Raises ChromiumError when it is not there in time."""
        deadline = time.monotonic() + SECONDS
        while not is_there():
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0 or not select.select([self._output], [], [], left_seconds)[0]:
                raise ChromiumError(f"{what} did not come within {SECONDS} s; {self._said()}")
            piece = os.read(self._output, 1 << 16)
            if not piece:
                raise ChromiumError(f"Chromium ended; {self._said()}")
            self._buffer += piece
            *messages, rest = self._buffer.split(b"\0")
            self._buffer = rest
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]] = message
                else:
                    self.events(message.get("sessionId", "")).append(message)

    def _said(self) -> str:
        return f"its log: {self._log.read_text(errors='replace')[-2000:]}"


class Page:
    """One page of a browser; `close` forgets what it stored."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print("--- console of the page ---", *self.console(), sep="\n")
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def open(self, url: str) -> None:
        """Show what is at `url` and wait until all of it is loaded. Raises ChromiumError."""
        seen = len(self._browser.events(self._session))
        failed = self._call("Page.navigate", url=url).get("errorText")
        if failed:
            raise ChromiumError(f"{url}: {failed}")
        self._browser.read_until(
            lambda: any(
                event["method"] == "Page.loadEventFired"
                for event in self._browser.events(self._session)[seen:]
            ),
            what=f"the load of {url}",
        )

    def permit(self, name: str) -> None:
        """Grant its sites what the user would be asked for, by the name of the Permissions API."""
        self._browser.call(
            "Browser.setPermission",
            permission={"name": name},
            setting="granted",
            browserContextId=self._context,
        )

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript comes to, a promise's value included, as JSON has it.

        Raises ChromiumError when it throws.
        """
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", details["text"])
            raise ChromiumError(f"{expression}: {thrown}")
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> Any:
        """The first true value of an expression; fails when none comes in time."""
        return eventually(lambda: self.evaluate(expression), seconds=SECONDS, what=expression)

    def console(self) -> list[str]:
        """What its scripts printed, and what the browser said of it, such as a blocked request."""
        self.evaluate("0")  # so that what was said until now has been taken in
        said = []
        for event in self._browser.events(self._session):
            parameters = event["params"]
            if event["method"] == "Runtime.consoleAPICalled":
                words = (str(a.get("value", a.get("description"))) for a in parameters["args"])
                said.append(f"{parameters['type']}: {' '.join(words)}")
            elif event["method"] == "Log.entryAdded":
                said.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        return said

    def picture(self) -> bytes:
        """What it looks like now, as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, session=self._session, **parameters)
