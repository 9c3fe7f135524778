"""What a new destination must be before it is saved: free, whole, tested. For command and API.

A table is what a file of the destination would hold. Where an answer is asked for and where a
daemon is told is the caller's business.
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relay.config import Config, DestinationConfig, saved
from relay.config.destinations import FoundDestination, read_destination
from relay.config.presets import HeaderField, Preset
from relay.config.secrets import Resolver, escape, has_reference
from relay.config.signals import signals_of
from relay.config.tables import ConfigProblems, Reading
from relay.doctor.report import Report
from relay.model.records import Signal

_SECRET_HEADER: Final = re.compile(
    r"auth|token|key|secret|pass|cookie|credential|team", re.IGNORECASE
)


def free_place(name: str, config: Config, *, may_replace: bool) -> Path:
    """The folder to save in. Raises NotSaved, which names the file, if the name is taken."""
    folder = config.destinations_dir
    if folder is None:
        raise saved.NotSaved(
            "there is nowhere to save it",
            hint="give a configuration with --config, or make one, for which an empty file will "
            "do: ~/.config/otlp-relay/relay.toml",
        )
    path = saved.path_of(folder, name)
    taken = config.destination(name)
    if taken is not None and taken.source != path:
        raise saved.NotSaved(
            f"the name is taken by [destinations.{name}] in {taken.source or 'the environment'}",
            hint="edit it there, or choose another name",
        )
    saved.refuse_taken(path, may_replace=may_replace)
    return folder


def missing_headers(
    table: Mapping[str, Any], preset: Preset | None
) -> list[tuple[str, HeaderField]]:
    """Headers that nobody gave and that cannot be filled in, each with the key that it is for."""
    if preset is None:
        return []
    written = table.get("signals", "")
    words = [word.strip() for word in written.split(",")] if written else preset.default_signals
    missing: dict[tuple[str, str], HeaderField] = {}
    for word in preset.taken_signals:
        own = f"{word}_headers"
        given = {name.lower() for key in ("headers", own) for name in table.get(key, {})}
        for field in preset.headers_of(word) if word in words else ():
            if not field.is_fixed and field.name.lower() not in given:
                key = "headers" if field in preset.headers else own
                missing[key, field.name] = field
    return [(key, field) for (key, _name), field in missing.items()]


def filled(field: HeaderField, answer: str) -> str:
    """The header's template with what was answered, where the whole value may have been given."""
    if field.prefix and answer.lower().startswith(field.prefix.lower()):
        answer = answer[len(field.prefix) :].lstrip()
    return field.fill(typed(answer))


def typed(answer: str) -> str:
    """A template of what was answered: one with `${…}` is such already."""
    answer = answer.strip()
    return answer if "${" in answer else escape(answer)


def read_table(
    name: str, table: Mapping[str, Any], config: Config, environ: Mapping[str, str]
) -> tuple[DestinationConfig, list[str]]:
    """The destination that a file with this table would be, and warnings of it.

    Raises ConfigProblems as the daemon would.
    """
    reading = Reading(Resolver(environ, folder_of(config)))
    found = FoundDestination(name, dict(table), "", f"destination {name}", None)
    destination = read_destination(found, config.ingest, reading)
    if destination is None:
        raise ConfigProblems(reading.problems)
    return destination, reading.warnings


def folder_of(config: Config) -> Path:
    """Where relative paths in files of this configuration start."""
    if config.source:
        return config.source.parent
    return config.destinations_dir.parent if config.destinations_dir else Path("/")


def failed_of(reports: Mapping[Signal, Report]) -> dict[Signal, Report]:
    """Those that did not pass."""
    return {signal: report for signal, report in reports.items() if not report.passed}


def complete(
    table: dict[str, Any],
    destination: DestinationConfig,
    reports: Mapping[Signal, Report],
    preset: Preset | None,
) -> None:
    """Put into `table` what the tests showed: the signals, and protobuf where JSON is refused."""
    signals = tuple(reports)
    table.pop("signals", None)
    if signals != signals_of({}, preset):
        table["signals"] = [signal.word for signal in signals]
    encodings = {report.encoding for report in reports.values()}
    if encodings == {"protobuf"} and destination.encoding == "auto":
        table["encoding"] = "protobuf"


def notes_of(reports: Mapping[Signal, Report]) -> list[str]:
    """Comments of the file: when it was tested, and whether it passed."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    failed = failed_of(reports)
    if not failed:
        return [f"Tested and saved {now}."]
    return [
        f"Saved {now} with --save-anyway although the connection test did not pass:",
        *(report.wrong for report in failed.values()),
    ]


def hint_of(table: dict[str, Any], preset: Preset | None) -> str:
    """Where a secret was typed into the file, that there is another way; else empty."""
    known = {each.name.lower(): each.is_secret for each in preset.all_headers} if preset else {}
    names = [
        name
        for key in ("headers", "logs_headers", "metrics_headers")
        for name, template in table.get(key, {}).items()
        if not has_reference(template)
        and known.get(name.lower(), bool(_SECRET_HEADER.search(name)))
    ]
    if not names:
        return ""
    return (
        f"the value of {', '.join(names)} is in the file, which only its owner can read; "
        "use ${env:NAME}, ${file:PATH} or ${credential:NAME} to keep it out"
    )
