"""How a destination of a preset is written: as TOML, as a command, as JSON.

No secret stands in either: where one belongs there is a reference to the environment.
"""

from typing import Any

import msgspec

from relay.config.presets.preset import TOKEN, HeaderField, Preset
from relay.model.units import format_duration, format_size


def variable_of(preset: Preset) -> str:
    """The environment variable that the examples take the secret from."""
    return f"{preset.name.upper().replace('-', '_')}_TOKEN"


def headers_of(preset: Preset) -> dict[str, str]:
    """The headers that the user has to give, with references in the place of secrets."""
    return {each.name: _value_of(each, preset) for each in preset.headers if each.is_required}


def toml_of(preset: Preset) -> str:
    """A table that loads as it is, once the variable is set."""
    if preset.is_sender:
        return f'[ingest]\ntokens = ["${{env:{variable_of(preset)}}}"]'
    lines = [f"[destinations.{preset.name}]", f'preset = "{preset.name}"']
    if preset.placeholders:
        lines.append(f'endpoint = "{preset.example_endpoint}"')
    headers = [f'{name} = "{value}"' for name, value in headers_of(preset).items()]
    if headers:
        lines.append(f"headers = {{ {', '.join(headers)} }}")
    return "\n".join(lines)


def command_of(preset: Preset) -> str:
    """A command line that adds the same destination, for a POSIX shell; not for a sender."""
    parts = [f"otlp-relay destination add {preset.name} --preset {preset.name}"]
    if preset.placeholders:
        parts.append(f"--endpoint {preset.example_endpoint}")
    parts += [f"--header '{name}={value}'" for name, value in headers_of(preset).items()]
    return " \\\n  ".join(parts)


def document_of(preset: Preset) -> dict[str, Any]:
    """Everything as JSON has it; placeholders of the endpoint by name."""
    return {
        **msgspec.to_builtins(preset),
        "endpoints": [{"label": label, "url": url} for label, url in preset.endpoints.items()],
        "examples": preset.examples,
        "placeholders": list(preset.placeholders),
    }


def settings_of(preset: Preset) -> list[tuple[str, str]]:
    """The keys beside endpoint and headers that the preset fills in, as they are written."""
    settings: list[tuple[str, str]] = [
        ("encoding", preset.encoding),
        ("compression", preset.compression),
    ]
    if preset.max_batch_bytes is not None:
        settings.append(("max_batch_bytes", megabytes(preset.max_batch_bytes)))
    if preset.max_batch_items is not None:
        settings.append(("max_batch_items", str(preset.max_batch_items)))
    if preset.max_age_seconds is not None:
        settings.append(("max_age", format_duration(preset.max_age_seconds)))
    return settings


def settings_for(preset: Preset, signal: str) -> list[tuple[str, str]]:
    """The keys that are particular to a signal, as they are written."""
    facts = preset.facts_of(signal)
    settings: list[tuple[str, str]] = []
    if facts.encoding is not None:
        settings.append(("encoding", facts.encoding))
    if facts.temporality != "any":
        settings.append(("temporality", facts.temporality))
    if facts.max_batch_bytes is not None:
        settings.append(("max_batch_bytes", megabytes(facts.max_batch_bytes)))
    if facts.max_age_seconds is not None:
        settings.append(("max_age", format_duration(facts.max_age_seconds)))
    return settings


def probe_of(preset: Preset) -> str:
    """What a connection test sends, in a sentence or two."""
    if preset.is_sender:
        return "The sender tests the connection."
    real = {"logs": "one log record for logs", "metrics": "one data point for metrics"}
    others = " and ".join(words for word, words in real.items() if word in preset.taken_signals)
    if "traces" not in preset.taken_signals:
        return f"The connection test sends {others}."
    return f"{_probe_of_traces(preset)} It sends {others}." if others else _probe_of_traces(preset)


def _probe_of_traces(preset: Preset) -> str:
    if preset.refuses_empty:
        return "It refuses a request without spans, so the connection test sends one."
    if preset.makes_dataset:
        return "The connection test sends an empty request: a span would leave a data set behind."
    return "The connection test sends an empty request; with `--span` one span."


def _value_of(header: HeaderField, preset: Preset) -> str:
    secret = f"${{env:{variable_of(preset)}}}"
    return header.template.replace(TOKEN, secret if header.is_secret else header.example)


def megabytes(size_bytes: int) -> str:
    """Vendors mostly count by 1000, so that 3.2MB is shown and not 3125KiB."""
    if not size_bytes % 2**20:
        return format_size(size_bytes)
    return f"{size_bytes / 10**6:g}MB"
