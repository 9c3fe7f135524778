"""Routes of the admin API that a page is made from; docs/admin-api.md has the shapes.

::

    GET /api/view/rates?steps=360                             the last hour, in steps of 10 s
    GET /api/view/traces?q=…&cursor=…&limit=100               newest first, all or those meant
    GET /api/view/traces/ID?q=…&first=0&limit=500             one: way, tree, log records
    GET /api/view/span?row=ROW&item=N                         details that a large tree left out
    GET /api/view/value?row=ROW&item=N&at=PATH                a value that was cut
    GET /api/view/spans?q=…&cursor=…&limit=100&after=ROW      spans, newest first
        &as=NAME                                              as that destination gets them
    GET /api/view/logs?…                                      log records, likewise
    GET /api/view/points?…                                    data points, likewise
    GET /api/view/metrics?q=…&first=0&limit=100               series, by service and name
    GET /api/view/rejected?before=ID&limit=100                what was refused on the way in
    GET /api/view/events                                      a stream of what happens

400: the search or a parameter cannot be understood. 404: that is not kept. 503: too many streams
are open, or the disk cannot be read.
"""

from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from relay.admin.api import MOST, Api, BadQuery, digits, document, number
from relay.admin.stream import Watching
from relay.admin.trace_document import trace_document
from relay.admin.trace_routes import MOST_CHARACTERS
from relay.model.records import Signal
from relay.version import __version__
from relay.view.browse import Cursor
from relay.view.events import Event
from relay.view.one_trace import Page
from relay.view.query import Query, parse
from relay.view.rates import SLOTS
from relay.view.view import View

BASE: Final = "/api/view"
MOST_LISTED: Final = 500
MOST_TREE: Final = 10_000


def routes(view: View) -> list[Api]:
    """The routes over `view`."""
    return [*_list_routes(view), *_item_routes(view)]


def _list_routes(view: View) -> list[Api]:
    async def rates(request: Request) -> dict[str, Any]:
        steps = _limit(request.query_params, SLOTS, default=str(SLOTS), name="steps")
        return {**view.watch.rates.document(steps), "happened": view.watch.happened()}

    async def traces(request: Request) -> dict[str, Any]:
        return await view.browser.traces(*_search(request.query_params))

    def items(key: str, signal: Signal) -> Api:
        async def listed(request: Request) -> dict[str, Any]:
            query = request.query_params
            after = number(query.get("after", "0"), "after")
            name = query.get("as", "")
            seen = view.as_destination(name, signal) if name else list
            lines, reached = await view.browser.lines(
                signal, *_search(query), after=after, seen=seen
            )
            return {key: lines, **reached}

        return "GET", f"{BASE}/{key}", listed

    async def metrics(request: Request) -> dict[str, Any]:
        query = request.query_params
        first = number(query.get("first", "0"), "first")
        return await view.series.document(parse(query.get("q", "")), first, _limit(query))

    async def rejected(request: Request) -> dict[str, Any]:
        query = request.query_params
        before = number(query.get("before", str(MOST)), "before")
        return await view.rejected(before, _limit(query))

    async def events(_request: Request) -> Response:
        first = Event("hello", {"version": __version__, "last_row": view.watch.last_row})
        return Watching(view.watch.hub, first)

    return [
        ("GET", f"{BASE}/rates", rates),
        ("GET", f"{BASE}/traces", traces),
        items("spans", Signal.TRACES),
        items("logs", Signal.LOGS),
        items("points", Signal.METRICS),
        ("GET", f"{BASE}/metrics", metrics),
        ("GET", f"{BASE}/rejected", rejected),
        ("GET", f"{BASE}/events", events),
    ]


def _item_routes(view: View) -> list[Api]:
    async def one(request: Request) -> Response:
        query = request.query_params
        text = request.path_params["trace_id"].strip()[:MOST_CHARACTERS]
        if not text:
            raise BadQuery("name a trace id")
        first = number(query.get("first", "0"), "first")
        limit = _limit(query, MOST_TREE, default="500")
        only = query.get("only", "")
        if only not in ("", "genai"):
            raise BadQuery("only must be genai")
        page = Page(parse(query.get("q", "")), first, limit, is_only_genai=bool(only))
        report, found = await view.one_trace.find(text, page)
        way = trace_document(report)
        if not report.is_known:
            return document(way, 404)
        # What is kept stands in the tree and in the log records.
        return document({"way": {**way, "resourceSpans": [], "resourceLogs": []}, **found})

    async def span(request: Request) -> dict[str, Any]:
        return await view.one_trace.details(*_place(request.query_params))

    async def value(request: Request) -> dict[str, Any]:
        query = request.query_params
        return await view.one_trace.value(*_place(query), query.get("at", ""))

    return [
        ("GET", f"{BASE}/traces/{{trace_id:path}}", one),
        ("GET", f"{BASE}/span", span),
        ("GET", f"{BASE}/value", value),
    ]


def _search(query: QueryParams) -> tuple[Query, Cursor | None, int]:
    cursor = Cursor.of(query["cursor"]) if query.get("cursor") else None
    return parse(query.get("q", "")), cursor, _limit(query)


def _limit(
    query: QueryParams, most: int = MOST_LISTED, *, default: str = "100", name: str = "limit"
) -> int:
    limit = digits(query.get(name, default))
    if limit is None or not 1 <= limit <= most:
        raise BadQuery(f"{name} must be a number from 1 to {most}")
    return limit


def _place(query: QueryParams) -> tuple[int, int]:
    return number(query.get("row", ""), "row"), number(query.get("item", ""), "item")
