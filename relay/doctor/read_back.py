"""Whether a test span that was taken can be found again, by the query API that a preset knows."""

from collections.abc import Mapping
from typing import NamedTuple

import anyio
import msgspec

from relay.config import DestinationConfig
from relay.config.presets import Preset
from relay.model.errors import ConfigError
from relay.upstream.exchange import ExchangeFailed, Upstream
from relay.upstream.routes import Place

READ_BACK_SECONDS = 10.0
_POLL_SECONDS = 0.2


class ReadBack(NamedTuple):
    """Whether the trace was found; None if nobody could be asked. `found` says it in words."""

    is_there: bool | None
    found: str


async def read_back(
    destination: DestinationConfig,
    preset: Preset,
    trace_id: str,
    headers: Mapping[str, str],
) -> ReadBack:
    """Ask the query API for the trace until it is there or the time is over.

    Only headers that the preset says are no secrets go along: a token is for the endpoint.
    """
    host = Place.of(destination.endpoint).host
    url = preset.query_endpoint.format(host=f"[{host}]" if ":" in host else host, trace_id=trace_id)
    query = msgspec.structs.replace(
        destination,
        endpoint=url,
        timeout_seconds=min(destination.timeout_seconds, READ_BACK_SECONDS),
    )
    open_names = {field.name.lower() for field in preset.headers if not field.is_secret}
    shown = {name: value for name, value in headers.items() if name.lower() in open_names}
    upstream, place = Upstream(query), Place.of(url)
    last = "no response"
    with anyio.move_on_after(READ_BACK_SECONDS):
        try:
            while True:
                try:
                    response = await upstream.exchange(None, shown)
                except (ExchangeFailed, ConfigError) as failed:
                    return ReadBack(None, f"not read back: {_words(failed)}")
                if response.status == 200 and response.is_success:
                    return ReadBack(is_there=True, found=f"found again at {place}")
                last = f"{place} answered {response.said}"
                if response.status != 404 or response.is_page:
                    return ReadBack(None, f"not read back: {last}")
                await anyio.sleep(_POLL_SECONDS)
        finally:
            await upstream.aclose()
    return ReadBack(is_there=False, found=f"not found within {READ_BACK_SECONDS:.0f} s: {last}")


def _words(failed: ExchangeFailed | ConfigError) -> str:
    return failed.fault.cause if isinstance(failed, ExchangeFailed) else failed.message
