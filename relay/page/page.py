"""The routes of the page: one shell for every screen, its static files, and fragments that fill it.

The shell holds nothing of the relay and needs no token. Fragments are rendered from what the
admin API responds, asked here by path, so that page and API cannot tell different things.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from relay.genai.panel import TraceItems
from relay.model.errors import RelayError
from relay.page import documents
from relay.page.render import render
from relay.version import __version__

Endpoint = Callable[[Request], Awaitable[Any]]
Routes = list[tuple[str, str, Endpoint]]

SCREENS: Final = (
    *("/", "/traces", "/traces/{trace_id:path}", "/logs", "/metrics-view", "/genai"),
    *("/sessions/{session:path}", "/setup", "/destinations/{name}", "/rejected"),
)
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES: Final = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
TREE_ROWS: Final = 200
GENAI_SECONDS_OLD: Final = 30  # that sums may be: they need a look through all that is kept
INGEST: Final = "ingest"  # the destination of what was refused on the way in
# Parameters of a screen that it hands on to what it asks.
_SEARCH: Final = ("q", "cursor", "first")


class NotAnswered(RelayError):
    """The API has no such thing; the document says why."""

    code = "not_answered"


class Page:
    """The page over the routes of the API, of which only those that change nothing are asked."""

    def __init__(self, api: Routes) -> None:
        self._api = {path: endpoint for method, path, endpoint in api if method == "GET"}
        self._shell = render("shell.html", {}, version=__version__)

    def open_routes(self) -> list[BaseRoute]:
        """What needs no token: the shell, the same for every screen, and the static files."""

        async def shell(_request: Request) -> Response:
            return HTMLResponse(self._shell, headers=HEADERS)

        return [
            *(Route(path, shell) for path in SCREENS),
            *(Route(f"/static/{name}", partial(_static, body, name)) for name, body in _statics()),
        ]

    def fragments(self) -> Routes:
        """What fills the shell, for whoever has the token."""
        found: Mapping[str, Endpoint] = {
            "flow": self._flow,
            "traces": partial(self._list, "traces"),
            "logs": partial(self._list, "logs"),
            "metrics-view": partial(self._list, "metrics"),
            "traces/{trace_id:path}": self._trace,
            "span": self._span,
            "part": self._part,
            "genai": self._genai,
            "sessions/{session:path}": self._session,
            "rejected": self._rejected,
            "letters/{letter_id}": self._letter,
            "destinations/{name}": self._destination,
            "destinations/{name}/replay": self._replay,
            "setup": self._setup,
        }
        return [("GET", f"/page/{path}", endpoint) for path, endpoint in found.items()]

    async def _ask(self, path: str, names: Mapping[str, str] | None = None, /, **query: Any) -> Any:
        """The document of the API at `path`. Raises NotAnswered with what it says."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [],
            "path_params": dict(names or {}),
            "query_string": urlencode(query).encode(),
        }
        found = await self._api[path](Request(scope))
        if not isinstance(found, Response):
            return msgspec.json.decode(msgspec.json.encode(found))  # as anybody gets it
        document = msgspec.json.decode(found.body)
        if found.status_code != 200:
            raise NotAnswered(document.get("error", "that is not kept"))
        return document

    async def _flow(self, request: Request) -> Response:
        status, rates = await self._ask("/api/status"), await self._ask("/api/view/rates")
        return _html(
            request,
            "flow.html",
            status=status,
            rates=rates,
            destinations=documents.destinations_of(status, rates),
            wrong=documents.wrong_with(status),
            rejected=documents.rejected_in(status),
            received=documents.totals(rates, "received"),
            chart=documents.chart_of(rates),
            sentence=documents.sentence,
        )

    async def _list(self, what: str, request: Request) -> Response:
        """Traces, log records or metrics, as they are searched for."""
        asked = {key: value for key, value in request.query_params.items() if key in _SEARCH}
        found = await self._ask(f"/api/view/{what}", **asked)
        return _html(request, f"{what}.html", **found)

    async def _trace(self, request: Request) -> Response:
        query = request.query_params
        asked = {key: query[key] for key in ("q", "first", "only") if query.get(key)}
        names = {"trace_id": request.path_params["trace_id"]}
        path = "/api/view/traces/{trace_id:path}"
        found = await self._ask(path, names, limit=TREE_ROWS, **asked)
        template = "spans.html" if "rows" in query else "trace.html"
        return _html(request, template, rows=TREE_ROWS, **found)

    async def _span(self, request: Request) -> Response:
        query = request.query_params
        details = await self._ask("/api/view/span", row=query.get("row"), item=query.get("item"))
        items = await self._items(query.get("trace", ""))
        place = {key: query.get(key, "") for key in ("trace", "span", "row", "item")}
        panel = await anyio.to_thread.run_sync(items.panel, place["span"])
        return _html(request, "span.html", details=details, panel=panel, place=place)

    async def _part(self, request: Request) -> Response:
        """The whole of a part of a prompt, or of a value, that was cut."""
        query = request.query_params
        if "at" in query:
            asked = {key: query.get(key, "") for key in ("row", "item", "at")}
            text = (await self._ask("/api/view/value", **asked))["value"]
        else:
            items = await self._items(query.get("trace", ""))
            numbers = [_number(query.get(key, "")) for key in ("message", "part")]
            text = items.part(query.get("span", ""), query.get("side", ""), *numbers)
        return _html(request, "part.html", text=text)

    async def _items(self, trace_id: str) -> TraceItems:
        found = await self._ask("/api/traces/{trace_id:path}", {"trace_id": trace_id})
        return await anyio.to_thread.run_sync(TraceItems.of, found)

    async def _genai(self, request: Request) -> Response:
        by = request.query_params.get("by", "model")
        found = await self._ask("/api/genai", by=by, old=GENAI_SECONDS_OLD)
        return _html(request, "genai.html", shown=found)

    async def _session(self, request: Request) -> Response:
        names = {"session": request.path_params["session"]}
        found = await self._ask("/api/genai/sessions/{session:path}", names)
        return _html(request, "session.html", shown=found)

    async def _rejected(self, request: Request) -> Response:
        before = request.query_params.get("before")
        asked = {"before": before} if before else {}
        return _html(request, "rejected.html", **await self._ask("/api/view/rejected", **asked))

    async def _letter(self, request: Request) -> Response:
        names = {"letter_id": request.path_params["letter_id"]}
        found = await self._ask("/api/dead-letters/{letter_id}", names)
        return _html(request, "letter.html", letter=found)

    async def _destination(self, request: Request) -> Response:
        name = request.path_params["name"]
        status, rates = await self._ask("/api/status"), await self._ask("/api/view/rates")
        known = None
        if name != INGEST:
            known = await self._ask("/api/destinations/{name}", {"name": name})
        groups = await self._ask("/api/dead-letters/groups", destination=name)
        letters = await self._ask("/api/dead-letters", destination=name, limit="50")
        lines = documents.destinations_of(status, rates)
        return _html(
            request,
            "destination.html",
            name=name,
            known=known,
            line=next((each for each in lines if each["name"] == name), None),
            groups=groups,
            letters=letters,
            chart=documents.chart_of(rates, name),
        )

    async def _replay(self, request: Request) -> Response:
        """What a replay would send, and the button that sends it."""
        query, name = request.query_params, request.path_params["name"]
        trace = query.get("trace", "").strip()
        asked = {"trace": trace} if trace else {"since": documents.since_ns(query.get("since", ""))}
        found = await self._ask("/api/destinations/{name}/replay", {"name": name}, **asked)
        return _html(request, "replay.html", name=name, found=found, query_of=urlencode(asked))

    async def _setup(self, request: Request) -> Response:
        status, rates = await self._ask("/api/status"), await self._ask("/api/view/rates")
        presets = [each for each in (await self._ask("/api/presets"))["presets"]
                   if not each["is_sender"]]  # fmt: skip
        wanted = request.query_params.get("preset", "")
        preset = next((each for each in presets if each["name"] == wanted), None)
        return _html(
            request, "setup.html", status=status, rates=rates, presets=presets, preset=preset
        )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1


def _html(request: Request, template: str, **document: Any) -> Response:
    return HTMLResponse(render(template, dict(request.query_params), **document), headers=HEADERS)


async def _static(body: bytes, name: str, _request: Request) -> Response:
    # Names of vendored files have their version in them, but ours have not.
    headers = {**HEADERS, "Cache-Control": "no-cache"}
    return Response(body, headers=headers, media_type=TYPES[name.rpartition(".")[2]])


def _statics() -> Iterable[tuple[str, bytes]]:
    folder = files("relay.page") / "static"
    for each in (*folder.iterdir(), *(folder / "vendor").iterdir()):
        if each.is_file() and each.name.rpartition(".")[2] in TYPES:
            yield each.name, each.read_bytes()
