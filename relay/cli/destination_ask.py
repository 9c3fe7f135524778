"""Asks for what a new destination still needs, such as the secrets of its preset.

On a terminal each gap is a question; secrets are not echoed. Elsewhere nothing is ever asked: the
flags that are missing are named at once. An answer with ${…} in it is a template as in a file;
any other is taken as it is, whatever dollars it holds.
"""

import re
import sys
from typing import Any, Final

import click

from relay.cli.output import say
from relay.config.presets import Preset, find
from relay.doctor.adding import filled, missing_headers, typed
from relay.model.errors import ConfigError

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def is_terminal() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def preset_of(table: dict[str, Any]) -> Preset | None:
    """The preset that the table names. Raises click.UsageError with what would be right."""
    if "preset" not in table:
        return None
    try:
        preset = find(table["preset"])
    except ConfigError as error:
        raise click.UsageError(f"--preset: {error.message} ({error.hint})") from None
    if preset.is_sender:
        raise click.UsageError(
            f"--preset: {preset.name} sends spans to this relay and accepts none; "
            f"`otlp-relay destination presets {preset.name}` shows how to set it up"
        )
    return preset


def fill_gaps(table: dict[str, Any], preset: Preset | None) -> None:
    """Put into `table` what is still needed.

    Raises click.UsageError that names the missing flags where nobody can be asked.
    """
    if not is_terminal():
        _refuse_gaps(table, preset)
    else:
        _ask_endpoint(table, preset)
        _ask_headers(table, preset)


def _refuse_gaps(table: dict[str, Any], preset: Preset | None) -> None:
    gaps = []
    if "endpoint" not in table and preset is None:
        gaps.append("--endpoint URL, or --preset NAME")
    elif "endpoint" not in table and preset is not None and preset.placeholders:
        gaps.append(f"--endpoint, such as {' or '.join(preset.all_endpoints)}")
    for key, field in missing_headers(table, preset):
        if field.is_required:
            flag = f"--{key.removesuffix('s').replace('_', '-')}"
            value = field.template.replace("{token}", "…")
            found_at = f"; found at: {field.found_at}" if field.found_at else ""
            gaps.append(f"{flag} '{field.name}={value}' ({field.asks}{found_at})")
    if gaps:
        raise click.UsageError(
            "missing, and there is no terminal to ask on:\n  " + "\n  ".join(gaps)
        )


def _ask_endpoint(table: dict[str, Any], preset: Preset | None) -> None:
    if "endpoint" in table:
        return
    if preset is None:
        table["endpoint"] = typed(_prompt("Endpoint, the URL for traces"))
        return
    choices = preset.all_endpoints
    chosen = choices[0]
    if len(choices) > 1:
        labels = {url: label for label, url in preset.endpoints.items()}
        for number, url in enumerate(choices, start=1):
            label = f"  ({labels[url]})" if url in labels else ""
            say(f"  {number}  {url}{label}", err=True)
        answer = _prompt("Endpoint, a number or another URL", default="1").strip()
        is_number = answer.isdecimal() and 1 <= int(answer) <= len(choices)
        chosen = choices[int(answer) - 1] if is_number else answer
    values = {
        name: _prompt(f"{name} in {chosen}") for name in dict.fromkeys(_PLACEHOLDER.findall(chosen))
    }
    url = _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]).strip(), chosen)
    if url != preset.endpoint:
        table["endpoint"] = typed(url)


def _ask_headers(table: dict[str, Any], preset: Preset | None) -> None:
    for key, field in missing_headers(table, preset):
        if field.found_at:
            say(f"  {field.name}: {field.found_at}", err=True)
        text = f"{field.name}: {field.asks}"
        more: dict[str, Any] = {} if field.is_required else {"default": "", "show_default": False}
        answer = _prompt(text, hide_input=field.is_secret, **more).strip()
        if not answer:
            continue
        table.setdefault(key, {})[field.name] = filled(field, answer)


def _prompt(text: str, **more: Any) -> str:
    """On standard error, so that `--json` has standard output for itself."""
    return str(click.prompt(text, err=True, **more))
