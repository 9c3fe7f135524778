"""What a destination is for each signal that it gets: endpoint, headers and limits of that signal.

What is written wins over what the preset knows of the signal, and that over what the preset knows
of the backend.
"""

from typing import Any
from urllib.parse import urlunsplit

import msgspec

from relay.config import DestinationConfig
from relay.config.keys import DESTINATION_KEYS
from relay.config.presets import Preset, SignalFacts
from relay.config.secrets import Secret, escape
from relay.config.urls import split_url
from relay.model.errors import ConfigError
from relay.model.records import Signal

_OF_PRESETS = ("encoding", "compression", "max_batch_bytes", "max_batch_items", "max_age")


def signals_of(fields: dict[str, Any], preset: Preset | None) -> tuple[Signal, ...]:
    """The signals as written, else as the preset has them, else traces."""
    if "signals" in fields:
        written: tuple[Signal, ...] = fields["signals"]
        return written
    words = preset.default_signals if preset else (Signal.TRACES.word,)
    return tuple(signal for signal in Signal if signal.word in words)


def view_of(
    common: DestinationConfig, signal: Signal, preset: Preset | None, *, written: frozenset[str]
) -> DestinationConfig:
    """The destination as it is for `signal`; `written` are the keys of its table.

    Raises ConfigError, with its key, where the backend does not take the signal or where its
    endpoint cannot be told.
    """
    facts = SignalFacts()
    changed: dict[str, Any] = {}
    if preset is not None:
        try:
            facts = preset.facts_of(signal.word)
        except ConfigError as error:
            raise ConfigError(error.message, key="signals", hint=error.hint) from None
        for key in _OF_PRESETS:
            field = DESTINATION_KEYS[key].field
            known = getattr(facts, field, None)
            known = getattr(preset, field) if known is None else known
            if key not in written and known is not None:
                changed[field] = known
        if "temporality" not in written:
            changed["temporality"] = facts.temporality
    if signal is Signal.METRICS:
        changed["concurrency"] = 1  # a later point that arrives first makes the earlier ones late
    return msgspec.structs.replace(
        common,
        **changed,
        signal=signal,
        endpoint=_endpoint(common, signal, preset, facts, is_written="endpoint" in written),
        headers=_headers(common, signal, preset, facts),
    )


def _endpoint(
    common: DestinationConfig,
    signal: Signal,
    preset: Preset | None,
    facts: SignalFacts,
    *,
    is_written: bool,
) -> str:
    own: str = getattr(common, f"{signal.word}_endpoint", "")
    if own:
        return own
    first = preset.default_signals[0] if preset else Signal.TRACES.word
    base = common.endpoint
    if not is_written and preset is not None and not preset.placeholders:
        base = preset.endpoint
    if signal.word == first or (is_written and not base):  # its secret is not set
        return base
    if facts.endpoint and not is_written and "{" not in facts.endpoint:
        return facts.endpoint
    parts = split_url(base)
    path, tail = parts.path.rstrip("/"), f"/v1/{first}"
    if path.endswith(tail):
        ours = facts.path or f"/v1/{signal.word}"
        return urlunsplit(parts._replace(path=path.removesuffix(tail) + ours))
    if base and common.signals == (signal,):
        return base  # it is for nothing else
    raise ConfigError(
        f"is missing: it does not follow from an endpoint that does not end in {tail}",
        key=f"{signal.word}_endpoint",
        hint=f'write the whole URL, such as "https://collector.example:4318/v1/{signal.word}"',
    )


def _headers(
    common: DestinationConfig, signal: Signal, preset: Preset | None, facts: SignalFacts
) -> dict[str, Secret]:
    laid_over: dict[str, Secret] = getattr(common, f"{signal.word}_headers", {})
    away = {name.lower() for name in (*facts.without_headers, *laid_over)}
    headers = {name: it for name, it in common.headers.items() if name.lower() not in away}
    headers |= {name: it for name, it in laid_over.items() if it.reveal()}
    given = {name.lower() for name in (*headers, *laid_over)}
    for each in preset.headers_of(signal.word) if preset else ():
        if each.is_fixed and each.name.lower() not in given:
            headers[each.name] = Secret(escape(each.template))
    return headers
