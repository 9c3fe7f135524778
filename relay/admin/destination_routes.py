"""Routes of the admin API that add a destination: presets, and the test that it must pass.

::

    GET  /api/presets                       what is known of backends
    POST /api/destinations?stream=true      test one, save it if it passes, and take it up

The body is JSON: `name`, the keys of a destination (`preset`, `endpoint`, `signals`, `headers`, …),
and `span`, `replace`, `from`. Values are taken as they are and written into a file of mode 0600;
references such as `${env:NAME}` are refused here: with an endpoint of the caller's choice the token
of this API would send any secret that the daemon may read anywhere.
"""

from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from relay.admin.api import Api, BadQuery, document, flag
from relay.admin.control import start_of
from relay.admin.stream import streamed, tell_step
from relay.config.presets import PRESETS, Preset
from relay.config.presets.example import document_of
from relay.config.secrets import escape
from relay.doctor.adding import filled
from relay.reload import Added, Control
from relay.view.events import EventSink

MOST_BYTES: Final = 64 * 1024


class NewDestination(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What may be said of a new destination over the API."""

    name: str
    preset: str = ""
    endpoint: str = ""
    logs_endpoint: str = ""
    metrics_endpoint: str = ""
    signals: list[str] = []
    encoding: str = ""
    compression: str = ""
    temporality: str = ""
    headers: dict[str, str] = {}
    logs_headers: dict[str, str] = {}
    metrics_headers: dict[str, str] = {}
    span: bool = False
    replace: bool = False
    start: str = msgspec.field(default="", name="from")

    def table(self) -> dict[str, Any]:
        """What its file would hold. Raises BadQuery, which repeats no value."""
        table: dict[str, Any] = msgspec.to_builtins(self)
        for key in ("name", "span", "replace", "from"):
            table.pop(key, None)
        preset = PRESETS.get(self.preset)
        for key, value in table.items():
            if isinstance(value, str):
                table[key] = _plain(key, value)
            elif isinstance(value, dict):
                table[key] = {each: _header(each, value[each], preset) for each in value}
        return table


def _header(name: str, value: str, preset: Preset | None) -> str:
    fields = preset.all_headers if preset else ()
    field = next((each for each in fields if each.name.lower() == name.lower()), None)
    _plain(name, value)
    if field is None or not field.prefix:
        return escape(value)
    return filled(field, value)


def _plain(name: str, value: str) -> str:
    if "${" in value:
        raise BadQuery(
            f"{name[:100]}: give the value itself; references such as ${{env:NAME}} are for "
            "`otlp-relay destination add` and for files"
        )
    return escape(value)


def routes(control: Control) -> list[Api]:
    """The routes over `control`."""

    async def presets(_request: Request) -> dict[str, Any]:
        return {"presets": [document_of(each) for each in PRESETS.values()]}

    async def add(request: Request) -> Response | Added:
        is_streamed = flag(request.query_params, "stream")
        wanted = await _read(request)
        table = wanted.table()
        start = start_of(wanted.start)
        if wanted.start and start is None:
            raise BadQuery("from must be beginning, end or nanoseconds since 1970")

        async def work(sink: EventSink | None = None) -> Added:
            return await control.add(
                wanted.name,
                table,
                send_span=wanted.span,
                may_replace=wanted.replace,
                start=start,
                on_step=partial(tell_step, sink) if sink else None,
            )

        if is_streamed:
            return streamed(work)
        added = await work()
        return document(added, 200 if added.saved else 409)

    return [("GET", "/api/presets", presets), ("POST", "/api/destinations", add)]


async def _read(request: Request) -> NewDestination:
    """The body. Raises BadQuery, which repeats nothing of it."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise BadQuery(f"the body has at most {MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=NewDestination)
    except msgspec.ValidationError as error:
        raise BadQuery(f"the body: {error}") from None
    except msgspec.DecodeError:
        raise BadQuery("the body must be JSON") from None
