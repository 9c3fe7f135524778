"""How the value of a key is read, by kind; which keys there are is in `config.keys`.

A reader raises ConfigError with what would be right, without key or
source (the caller knows them); it repeats what was written only where that cannot be a secret.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from relay.config import HEADER_NAME, ListenAddress, header_value_fault
from relay.config.presets import find
from relay.config.secrets import (
    Reference,
    Resolver,
    Secret,
    has_reference,
    mask_url,
    parse,
    read_text,
)
from relay.config.urls import parse_url
from relay.model.errors import ConfigError
from relay.model.records import Signal
from relay.model.units import FOREVER, format_size, parse_duration, parse_size

Reader = Callable[[object, Resolver], Any]
Entry = TypeVar("Entry")

_TOKEN = re.compile(r"[!-~]+")
# What the relay writes itself, and what belongs to the connection and not to the message.
_OUR_HEADERS = {
    "content-type": 'set encoding = "json" or "protobuf" instead',
    "content-encoding": 'set compression = "gzip" or "none" instead',
    "content-length": "leave it out",
    "transfer-encoding": "leave it out",
    "connection": "leave it out",
    "otlp-relay-hops": "leave it out",
}


class Faults(ConfigError):
    """Several entries of one value are wrong."""

    def __init__(self, entries: list[tuple[str, ConfigError]]) -> None:
        self.entries = entries
        super().__init__("; ".join(f"{name}: {error.message}" for name, error in entries))


def _each(entries: Iterable[tuple[str, Callable[[], Entry]]]) -> list[Entry]:
    """What each named entry is read as. Raises Faults with all that are wrong."""
    found, faults = [], []
    for name, read in entries:
        try:
            found.append(read())
        except ConfigError as error:
            faults.append((name, error))
    if faults:
        raise Faults(faults)
    return found


class Key(NamedTuple):
    """A key of a table: the field that it fills, how it is read, and what it is for.

    The command line makes an option of each key of a destination that has a `help`.
    """

    field: str
    read: Reader
    help: str = ""
    metavar: Literal["VALUE", "N", "FILE"] = "VALUE"
    also: str = ""
    """Another name of the same key."""


def nearest(name: str, known: list[str]) -> str:
    """A hint for a word that is not among those that are known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def shown(value: object) -> str:
    """A value as an error repeats it: short and on one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def text(value: object, resolver: Resolver) -> str:
    """A string with its references resolved."""
    if not isinstance(value, str):
        raise ConfigError(f"must be a string, not a {_kind(value)}")
    return resolver.expand(value)


def _expanded(value: object, resolver: Resolver) -> object:
    return resolver.expand(value) if isinstance(value, str) else value


def literal(value: object, _resolver: Resolver) -> str:
    """A string that is taken as it is: a reference in it would be a name like any other."""
    if not isinstance(value, str):
        raise ConfigError("must be a string")
    return value


def one_of(*choices: str) -> Reader:
    """One of these words."""

    def read(value: object, resolver: Resolver) -> str:
        word = _expanded(value, resolver)
        if word not in choices:
            listed = ", ".join(f'"{choice}"' for choice in choices)
            raise ConfigError(f"must be one of {listed}, not {shown(value)}")
        return str(word)

    return read


def size(at_least_bytes: int = 0) -> Reader:
    """A size in bytes."""

    def read(value: object, resolver: Resolver) -> int:
        try:
            number = parse_size(_expanded(value, resolver))
        except ConfigError as error:
            raise ConfigError(f"{error.message}, not {shown(value)}") from None
        if number < at_least_bytes:
            raise ConfigError(f"must be at least {format_size(at_least_bytes)}, not {shown(value)}")
        return number

    return read


def duration(*, may_be_zero: bool = True, may_be_forever: bool = False) -> Reader:
    """Seconds; None for "forever" where that is allowed."""

    def read(value: object, resolver: Resolver) -> float | None:
        word = _expanded(value, resolver)
        if may_be_forever and word == FOREVER:
            return None
        try:
            seconds = parse_duration(word)
        except ConfigError as error:
            or_forever = f' or "{FOREVER}"' if may_be_forever else ""
            raise ConfigError(f"{error.message}{or_forever}, not {shown(value)}") from None
        if not seconds and not may_be_zero:
            raise ConfigError(f"must be longer than 0, not {shown(value)}")
        return seconds

    return read


def integer(lowest: int, highest: int) -> Reader:
    """A whole number within these bounds."""

    def read(value: object, _resolver: Resolver) -> int:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and isinstance(value, int) and lowest <= value <= highest):
            raise ConfigError(
                f"must be a whole number from {lowest} to {highest}, not {shown(value)}"
            )
        return value

    return read


def fraction(value: object, _resolver: Resolver) -> float:
    """A number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and isinstance(value, int | float) and 0 <= value <= 1):
        raise ConfigError(f"must be a number from 0 to 1, such as 0.1, not {shown(value)}")
    return float(value)


def boolean(value: object, _resolver: Resolver) -> bool:
    """The words true and false of TOML, no strings."""
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, not {shown(value)}")
    return value


def path(value: object, resolver: Resolver) -> Path | None:
    """An absolute path; a relative one starts at the configuration's folder. "" is none."""
    written = text(value, resolver)
    if "\n" in written or "\0" in written:
        raise ConfigError("must be a path, without line breaks or NUL")
    return resolver.folder / written if written else None


def file_path(value: object, resolver: Resolver) -> Path | None:
    """The path of a PEM file. References that put contents in are refused: never a path."""
    if isinstance(value, str):
        references = [part for part in parse(value) if isinstance(part, Reference)]
        if any(reference.kind != "env" for reference in references):
            raise ConfigError(
                "must be the path of a file, not its contents",
                hint='write "PATH", or "${env:CREDENTIALS_DIRECTORY}/NAME" for a credential',
            )
    return path(value, resolver)


def readable_file(value: object, resolver: Resolver) -> Path | None:
    """The path of a PEM file that can be read now. "" is none."""
    found = file_path(value, resolver)
    if found is not None:
        try:
            read_text(found)
        except ConfigError as error:
            written = shown(value) if has_reference(str(value)) else str(found)
            raise ConfigError(f"{written} cannot be read: {error.message}") from None
    return found


def list_of(read_item: Reader, *, or_one: bool = False) -> Reader:
    """A list, each entry read by `read_item`; where `or_one`, a bare entry is a list of one."""

    def read(value: object, resolver: Resolver) -> tuple[Any, ...]:
        if not isinstance(value, list):
            if or_one:
                return (read_item(value, resolver),)
            raise ConfigError(f"must be a list in brackets, not a {_kind(value)}")
        return tuple(
            _each(
                (f"[{index}]", functools.partial(read_item, item, resolver))
                for index, item in enumerate(value)
            )
        )

    return read


def _kind(value: object) -> str:
    names = {
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        list: "list",
        dict: "table",
    }
    return names.get(type(value), "date or time")


def read_by(read: Callable[[str], Any]) -> Reader:
    """A string that `read` makes something of; a fault is told with what was written."""

    def reader(value: object, resolver: Resolver) -> Any:
        written = text(value, resolver)
        try:
            return read(written)
        except ConfigError as error:
            raise ConfigError(f"{error.message}, not {shown(value)}", hint=error.hint) from None

    return reader


def listen_list(*, may_be_empty: bool = False) -> Reader:
    """One address or several different ones."""
    read_list = list_of(read_by(ListenAddress.parse), or_one=True)

    def read(value: object, resolver: Resolver) -> tuple[ListenAddress, ...]:
        addresses: tuple[ListenAddress, ...] = read_list(value, resolver)
        if not addresses and not may_be_empty:
            raise ConfigError('must name at least one address, such as "localhost:4318"')
        fixed = [address for address in addresses if address.port]
        if len(set(fixed)) < len(fixed):
            raise ConfigError("names one address twice")
        return addresses

    return read


def token(value: object, resolver: Resolver) -> Secret:
    """A bearer token: visible ASCII without blanks (RFC 6750, 2.1 is narrower)."""
    if not isinstance(value, str):
        raise ConfigError("must be a string")
    expanded = resolver.expand(value)
    if _TOKEN.fullmatch(expanded) is None:
        raise ConfigError("must be visible ASCII characters without blanks, at least one")
    return Secret(expanded)


def attributes(value: object, resolver: Resolver) -> dict[str, str]:
    """Attribute names and their text."""
    if not isinstance(value, dict):
        raise ConfigError('must be a table such as { "deployment.environment.name" = "local" }')

    def read(name: str, content: object) -> tuple[str, str]:
        if isinstance(content, dict):
            raise ConfigError("must be a string", hint="put a name with dots in quotes")
        if not name:
            raise ConfigError("an attribute needs a name")
        return name, text(content, resolver)

    return dict(_each((each[0] or '""', functools.partial(read, *each)) for each in value.items()))


def headers(value: object, resolver: Resolver) -> dict[str, Secret]:
    """Header names and the templates of their values; no value is ever repeated."""
    if not isinstance(value, dict):
        raise ConfigError('must be a table such as { Authorization = "Bearer ${env:TOKEN}" }')
    spelled: dict[str, str] = {}

    def read(name: str, template: object) -> tuple[str, Secret]:
        if HEADER_NAME.fullmatch(name) is None:
            raise ConfigError("is no header name: letters, digits and !#$%&'*+-.^_`|~ only")
        if name.lower() in _OUR_HEADERS:
            raise ConfigError("is set by the relay itself", hint=_OUR_HEADERS[name.lower()])
        if (other := spelled.setdefault(name.lower(), name)) != name:
            raise ConfigError(f"is the same header as {other}: leave one out")
        if not isinstance(template, str):
            raise ConfigError("must be a string")
        if not has_reference(template) and (fault := header_value_fault(resolver.expand(template))):
            raise ConfigError(fault)
        return name, Secret(template)

    return dict(
        _each(
            (
                name if HEADER_NAME.fullmatch(name) else shown(name),
                functools.partial(read, name, it),
            )
            for name, it in value.items()
        )
    )


def signals(value: object, resolver: Resolver) -> tuple[Signal, ...]:
    """Some of traces, logs and metrics, as a list or in one string with commas."""
    expanded = _expanded(value, resolver)
    words = expanded.split(",") if isinstance(expanded, str) else expanded
    if not isinstance(words, list) or not words:
        raise ConfigError('must be a list such as ["traces", "logs", "metrics"]')
    known = {signal.word: signal for signal in Signal}
    found = set()
    for word in words:
        if not isinstance(word, str) or word.strip() not in known:
            raise ConfigError(f"must be some of {', '.join(known)}, not {shown(word)}")
        found.add(known[word.strip()])
    return tuple(sorted(found))


def signals_or_auto(value: object, resolver: Resolver) -> tuple[Signal, ...] | None:
    """The same, or "auto": what some destination wants."""
    return None if _expanded(value, resolver) == "auto" else signals(value, resolver)


def endpoint(value: object, resolver: Resolver) -> str:
    """The URL for traces, taken as it is."""
    url = text(value, resolver)
    written = shown(mask_url(str(value)))
    try:
        if parse_url(url).fragment:
            raise ConfigError("must have no #fragment")
    except ConfigError as error:
        hint = 'write the whole URL, such as "https://collector.example:4318/v1/traces"'
        raise ConfigError(f"{error.message}, not {written}", hint=hint) from None
    return url


def own_endpoint(value: object, resolver: Resolver) -> str:
    """The URL of one signal, likewise; the empty string is none."""
    return "" if value == "" else endpoint(value, resolver)


def proxy(value: object, resolver: Resolver) -> str:
    """The words auto and none, or a proxy's URL."""
    word = text(value, resolver)
    if word in {"auto", "none"}:
        return word
    try:
        parse_url(word)
    except ConfigError as error:
        hint = '"auto", "none" or a URL such as "http://proxy.example:3128"'
        raise ConfigError(error.message, hint=hint) from None
    return word


def preset(value: object, resolver: Resolver) -> str | None:
    """The name of a backend's preset; the empty string is none."""
    name = text(value, resolver)
    if not name:
        return None
    found = find(name)
    if found.is_sender:
        raise ConfigError(
            f"{name} sends spans to this relay and takes none",
            hint="leave the destination out: what a sender needs is under [ingest]",
        )
    return found.name
