"""Questions and orders over HTTP in, the journal's answers out: the control API, all in JSON.

For tests that are not written in Python, and for `curl`. It has a listener of its own, so that no
path of it can be one that a vendor uses, and no sender reaches it. It knows no authentication:
listen on loopback, or in a network of containers.

::

    GET    /                 what this is, and where each signal goes
    GET    /counts           numbers and answers
    GET    /spans            accepted spans, by ?name= ?trace_id= ?attribute=KEY=VALUE …; the first
                             1,000, or ?limit=N of them from ?offset=N on; `total` says how many
    POST   /spans            the same, what is wanted as a JSON object
    …      /log-records      likewise, by ?body= ?severity_number= ?event_name= ?attribute= …
    …      /data-points      likewise, by ?name= ?kind= ?value= ?attribute= …
    GET    /requests         requests, by ?signal= ?status= ?encoding= ?header=NAME or NAME=VALUE
    GET    /requests/N       one request with its body and headers; of secret ones the names
    GET    /export           what was accepted, a line of OTLP JSON a request; ?signal=
                             ?format=har: all requests as an HTTP Archive, for browsers to show
    GET    /strangers        what reached the port and is no request: gRPC, failed TLS …
    POST   /assert           200 and the span that has all of it, 409 and the nearest miss;
                             ?signal=logs or metrics: the log record or data point
    POST   /assert-none      200 if nothing has all of it, 409 and what has it
    POST   /wait             until there are so many items or requests, or such an item; 409 if not
    GET    /script           what is yet to be answered
    PUT    /script           replace it;  POST appends;  DELETE clears
    POST   /release          let hanging and delayed requests be answered now
    POST   /stop             close the port and its connections, as an upstream that goes down;
    POST   /start            open it again
    PUT    /required-headers insist on these: {"x-key": "k"}, null for any value
    DELETE /journal          forget everything that came

The value of a header that is required, or whose name tells of a secret, is never shown. The
journal's own rules hold: items are accepted ones, in the order of their arrival.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mockcollector.control_http import AsciiJson, read_body, refuse_http, refuse_mistake
from mockcollector.control_values import (
    MistakeError,
    item_record,
    read_answers,
    read_query_wanted,
    read_wanted,
    request_record,
    script_record,
    whole_request_record,
)
from mockcollector.har import to_har
from mockcollector.journal import Journal
from mockcollector.otlp_lines import lines_of
from mockcollector.records import counts_record, stranger_record
from mockcollector.script import Script
from mockcollector.script_values import ScriptError
from mockcollector.signals import Signal

MAX_WAIT_SECONDS = 600.0
DEFAULT_LIMIT = 1000
# How the items of a signal are called: in a path, several and one of them in JSON.
_NAMES = {
    Signal.TRACES: ("/spans", "spans", "span"),
    Signal.LOGS: ("/log-records", "log_records", "log_record"),
    Signal.METRICS: ("/data-points", "data_points", "data_point"),
}
_SIGNAL_OF_PATH = {path: signal for signal, (path, _, _) in _NAMES.items()}
_SIGNAL_OF_MANY = {many: signal for signal, (_, many, _) in _NAMES.items()}
_SIGNAL_OF_ONE = {one: signal for signal, (_, _, one) in _NAMES.items()}
_WAITED_FOR = (*_SIGNAL_OF_MANY, *_SIGNAL_OF_ONE, "requests")
_WAIT_WORDS = {*_WAITED_FOR, "timeout", "distinct", "settled"}


class ControlApp(Starlette):
    """The control API of one collector, as an ASGI app in the collector's own event loop."""

    def __init__(
        self,
        journal: Journal,
        script: Script,
        *,
        describe: Callable[[], dict[str, Any]],
        release: Callable[[], None],
        wait_until_stopping: Callable[[], Awaitable[None]],
        listen: Callable[[bool], Awaitable[None]],
        require_headers: Callable[[Mapping[str, str | None]], None],
    ) -> None:
        """`describe` says where traces go and what they must carry, `release` is `/release`."""
        self._listen = listen
        self._require_headers = require_headers
        self._journal = journal
        self._script = script
        self._describe = describe
        self._release_requests = release
        self._wait_until_stopping = wait_until_stopping
        super().__init__(
            routes=[
                Route("/", self._tell),
                Route("/counts", self._count),
                *(Route(path, self._find, methods=["GET", "POST"]) for path in _SIGNAL_OF_PATH),
                Route("/requests", self._list_requests),
                Route("/requests/{number:int}", self._show_request),
                Route("/export", self._export),
                Route("/strangers", self._list_strangers),
                Route("/assert", self._assert, methods=["POST"]),
                Route("/assert-none", self._assert_none, methods=["POST"]),
                Route("/wait", self._wait, methods=["POST"]),
                Route("/script", self._change_script, methods=["GET", "PUT", "POST", "DELETE"]),
                Route("/release", self._release, methods=["POST"]),
                Route("/stop", self._stop, methods=["POST"]),
                Route("/start", self._start, methods=["POST"]),
                Route("/required-headers", self._change_headers, methods=["PUT"]),
                Route("/journal", self._clear, methods=["DELETE"]),
            ],
            exception_handlers={
                MistakeError: refuse_mistake,
                ScriptError: refuse_mistake,
                HTTPException: refuse_http,
            },
        )

    async def _tell(self, _request: Request) -> AsciiJson:
        paths = sorted({route.path for route in self.routes if isinstance(route, Route)})
        return AsciiJson({"mockcollector": "control API", **self._describe(), "paths": paths})

    async def _count(self, _request: Request) -> AsciiJson:
        return AsciiJson(counts_record(self._journal))

    def _check_items_are_kept(self) -> None:
        if self._journal.keep == "counts":
            raise MistakeError("this collector keeps counts only: ask /counts")

    async def _find(self, request: Request) -> AsciiJson:
        self._check_items_are_kept()
        signal = _SIGNAL_OF_PATH[request.url.path]
        if request.method == "POST":
            body = await read_body(request)
            include_refused = _flag(body, "include_refused")
            page = [(word, str(body.pop(word))) for word in ("limit", "offset") if word in body]
            _, limit, offset = _read_page(page)
            wanted = read_wanted(signal, body)
        else:
            query = list(request.query_params.multi_items())
            query, limit, offset = _read_page(query)
            include_refused = ("include_refused", "true") in query
            asked = [pair for pair in query if pair[0] != "include_refused"]
            wanted = read_query_wanted(signal, asked)

        def find() -> AsciiJson:
            found = self._journal.items(signal, wanted, include_refused=include_refused)
            shown = [item_record(item) for item in found[offset : offset + limit]]
            return AsciiJson({_NAMES[signal][1]: shown, "total": len(found)})

        # In a thread: the loop goes on to answer exporters.
        return await anyio.to_thread.run_sync(find)

    async def _list_requests(self, request: Request) -> AsciiJson:
        query = dict(request.query_params)
        header, status = query.pop("header", None), query.pop("status", None)
        encoding = query.pop("encoding", None)
        signal = query.pop("signal", None)
        if query:
            raise MistakeError(f"{min(query)!r} is not one of header, status, encoding, signal")
        if status is not None and not re.fullmatch(r"\d{3}", status):
            raise MistakeError("status is three digits")
        wanted: str | Mapping[str, str] | None = header
        if header is not None and "=" in header:
            name, _, value = header.partition("=")
            wanted = {name: value}
        found = self._journal.requests(
            header=wanted,
            status=int(status) if status else None,
            encoding=encoding,
            signal=_read_signal(signal) if signal is not None else None,
        )
        return AsciiJson({"requests": [request_record(each) for each in found]})

    async def _export(self, request: Request) -> Response:
        self._check_items_are_kept()
        signal, form = request.query_params.get("signal"), request.query_params.get("format")
        if form not in {None, "lines", "har"}:
            raise MistakeError("format is lines or har")
        requests = self._journal.requests(signal=_read_signal(signal) if signal else None)
        if form == "har":
            secret_names = self._describe()["header_names"]
            return await anyio.to_thread.run_sync(lambda: AsciiJson(to_har(requests, secret_names)))
        text = await anyio.to_thread.run_sync(lambda: "".join(f"{x}\n" for x in lines_of(requests)))
        return Response(text, media_type="application/x-ndjson")

    async def _list_strangers(self, _request: Request) -> AsciiJson:
        return AsciiJson({"strangers": [stranger_record(s) for s in self._journal.strangers()]})

    async def _assert(self, request: Request) -> AsciiJson:
        self._check_items_are_kept()
        signal = _read_signal(request.query_params.get("signal", Signal.TRACES))
        wanted = read_wanted(signal, await read_body(request))
        try:
            item = await anyio.to_thread.run_sync(self._journal.assert_item, signal, wanted)
        except AssertionError as miss:
            return AsciiJson({"error": str(miss)}, 409)
        return AsciiJson({_NAMES[signal][2]: item_record(item)})

    async def _assert_none(self, request: Request) -> AsciiJson:
        self._check_items_are_kept()
        signal = _read_signal(request.query_params.get("signal", Signal.TRACES))
        wanted = read_wanted(signal, await read_body(request))
        try:
            await anyio.to_thread.run_sync(self._journal.assert_no_item, signal, wanted)
        except AssertionError as found:
            return AsciiJson({"error": str(found)}, 409)
        return AsciiJson({"found": 0})

    async def _show_request(self, request: Request) -> AsciiJson:
        number = request.path_params["number"]
        found = [each for each in self._journal.requests() if each.number == number]
        if not found:
            raise HTTPException(404, f"no request {number} is kept")
        return AsciiJson(whole_request_record(found[0], self._describe()["header_names"]))

    async def _stop(self, _request: Request) -> AsciiJson:
        await self._listen(False)
        return AsciiJson({"listening": False})

    async def _start(self, _request: Request) -> AsciiJson:
        try:
            await self._listen(True)
        except OSError as error:
            return AsciiJson({"error": f"cannot listen: {error}"}, 409)
        return AsciiJson({"listening": True})

    async def _change_headers(self, request: Request) -> AsciiJson:
        try:
            self._require_headers(await read_body(request))
        except (TypeError, ValueError) as error:
            raise MistakeError(str(error)) from None
        return AsciiJson({"header_names": self._describe()["header_names"]})

    async def _wait(self, request: Request) -> AsciiJson:
        body = await read_body(request)
        wait = self._read_wait(body)
        answer = AsciiJson({"error": "the collector stops"}, 503)

        async def ask() -> None:
            nonlocal answer
            try:
                answer = AsciiJson(await wait())
            except AssertionError as miss:
                answer = AsciiJson({"error": str(miss)}, 409)
            group.cancel_scope.cancel()

        async def watch(end: Callable[[], Awaitable[None]]) -> None:
            await end()
            group.cancel_scope.cancel()

        async def client_leaves() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(watch, client_leaves)
            group.start_soon(watch, self._wait_until_stopping)
        return answer

    def _read_wait(self, body: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
        """What to wait for, as a function. Raises MistakeError."""
        words = [word for word in _WAITED_FOR if word in body]
        if len(words) != 1 or not body.keys() <= _WAIT_WORDS:
            raise MistakeError(
                'wait for one of "spans": N, "span": {…}, "requests": N, "log_records": N, '
                '"log_record": {…}, "data_points": N, "data_point": {…}; '
                'with "timeout" in seconds, "distinct" or "settled"'
            )
        (what,) = words
        timeout = body.get("timeout", 10.0)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise MistakeError("timeout is a number of seconds")
        if not 0 <= timeout <= MAX_WAIT_SECONDS:
            raise MistakeError(f"timeout is between 0 and {MAX_WAIT_SECONDS:g} seconds")
        is_distinct = _flag(body, "distinct", default=True)
        is_settled = _flag(body, "settled")
        if what in _SIGNAL_OF_ONE:
            self._check_items_are_kept()
            signal = _SIGNAL_OF_ONE[what]
            wanted = read_wanted(signal, body[what])

            async def for_item() -> dict[str, Any]:
                item = await self._journal.wait_for_item_async(signal, wanted, timeout)
                return {what: item_record(item)}

            return for_item
        count = body[what]
        if type(count) is not int or count < 0:
            raise MistakeError(f"{what} is a whole number")

        async def for_count() -> dict[str, Any]:
            if what in _SIGNAL_OF_MANY:
                signal = _SIGNAL_OF_MANY[what]
                is_by_id = is_distinct and signal is Signal.TRACES
                await self._journal.wait_for_items_async(signal, count, timeout, distinct=is_by_id)
            else:
                await self._journal.wait_for_requests_async(count, timeout, settled=is_settled)
            return counts_record(self._journal)

        return for_count

    async def _change_script(self, request: Request) -> AsciiJson:
        if request.method == "DELETE":
            self._script.clear()
        elif request.method in {"PUT", "POST"}:
            body = await read_body(request)
            answers, default = read_answers(body)
            if request.method == "PUT":
                self._script.replace(answers)
            else:
                self._script.add(answers)
            if default is not None:
                self._script.default = default
        return AsciiJson(script_record(self._script))

    async def _release(self, _request: Request) -> AsciiJson:
        self._release_requests()
        return AsciiJson({"released": True})

    async def _clear(self, _request: Request) -> AsciiJson:
        self._journal.clear()
        return AsciiJson(counts_record(self._journal))


def _read_page(query: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], int, int]:
    """What else is in the query, how many items are asked for, and from where on."""
    numbers = {"limit": DEFAULT_LIMIT, "offset": 0}
    others = []
    for word, text in query:
        if word not in numbers:
            others.append((word, text))
        elif not re.fullmatch(r"\d{1,9}", text):
            raise MistakeError(f"{word} is a whole number")
        else:
            numbers[word] = int(text)
    return others, numbers["limit"], numbers["offset"]


def _read_signal(text: str) -> Signal:
    if text not in set(Signal):
        raise MistakeError(f"signal is one of {', '.join(Signal)}")
    return Signal(text)


def _flag(body: dict[str, Any], name: str, *, default: bool = False) -> bool:
    value = body.pop(name, default)
    if not isinstance(value, bool):
        raise MistakeError(f"{name} is true or false")
    return value
