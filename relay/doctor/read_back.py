"""A span that was taken and a query API go in; whether the span can be found comes out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import anyio

from relay.config.presets import Preset
from relay.doctor.dialling import Line, Target, dial
from relay.doctor.exchange import Reply, Secrets, ask
from relay.doctor.report import Recorder, StepFailed
from relay.model.errors import ConfigError
from relay.upstream.request_head import USER_AGENT

READ_BACK_SECONDS = 10.0
_POLL_SECONDS = 0.2


class ReadBack(NamedTuple):
    """Whether the trace was found; None if nobody could be asked. `found` says it in words."""

    is_there: bool | None
    found: str


async def read_back(
    target: Target,
    preset: Preset,
    trace_id: str,
    headers: Mapping[str, str],
    secrets: Secrets,
    seconds: float = READ_BACK_SECONDS,
) -> ReadBack:
    """Ask the query API for the trace until it is there or the time is over.

    Only headers that the preset says are no secrets go along: a token is for the endpoint.
    """
    place = target.place
    host = f"[{place.host}]" if ":" in place.host else place.host
    url = preset.query_endpoint.format(host=host, trace_id=trace_id)
    query = replace(target, endpoint=url, timeout_seconds=min(target.timeout_seconds, seconds))
    head = _head(query, preset, headers)
    last = "nothing was answered"
    with anyio.move_on_after(seconds):
        while True:
            try:
                reply = await _get(query, head, secrets)
            except (StepFailed, ConfigError) as failed:
                return ReadBack(None, f"not read back: {_words(failed)}")
            if reply.status == 200 and not reply.is_page:
                return ReadBack(is_there=True, found=f"found again at {query.place}")
            last = f"{query.place} answered {reply.said}"
            if reply.status != 404 or reply.is_page:
                return ReadBack(None, f"not read back: {last}")
            await anyio.sleep(_POLL_SECONDS)
    return ReadBack(is_there=False, found=f"not found within {seconds:.0f} s: {last}")


def _words(failed: StepFailed | ConfigError) -> str:
    return failed.wrong if isinstance(failed, StepFailed) else failed.message


async def _get(query: Target, head: list[tuple[bytes, bytes]], secrets: Secrets) -> Reply:
    line: Line = await dial(query, Recorder())
    try:
        return await ask(line, query, head, None, secrets)
    finally:
        await line.aclose()


def _head(query: Target, preset: Preset, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    open_names = {field.name.lower() for field in preset.headers if not field.is_secret}
    head = {"Host": query.url.netloc.decode("ascii"), "User-Agent": USER_AGENT}
    head["Accept"] = "application/json"
    head |= {name: value for name, value in headers.items() if name.lower() in open_names}
    return [(name.encode(), value.encode("latin-1")) for name, value in head.items()]
