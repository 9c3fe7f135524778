"""What stands for a secret in the configuration, and its value.

::

    ${env:NAME}          an environment variable; an empty one counts as not set
    ${file:PATH}         the text of a file, one newline at its end taken off
    ${credential:NAME}   the same of a file in systemd's $CREDENTIALS_DIRECTORY
    $$                   a dollar; a dollar before anything else is an error

What is put in is not searched again: a secret may hold any character. Values never stand in an
error; references do, since they only name where the value is.
"""

import hmac
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from relay.config.urls import split_url
from relay.model.errors import ConfigError, NoCredentials, SecretUnset

MASK: Final = "***"
MAX_FILE_BYTES: Final = 1_000_000

_TOKEN = re.compile(r"\$(?:\$|\{(?P<kind>[a-z]+):(?P<name>[^}]*)\}|(?P<wrong>))")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL_NAME = re.compile(r"(?!\.\.?$)[^/\0]{1,255}")


class Secret:
    """A text that is shown as *** wherever it is printed; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for the wire only, never for a log, an error or a response."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (s.encode("utf-8", "surrogatepass") for s in (self._value, other._value))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._value)


class Reference(NamedTuple):
    """One ${kind:name} of a template."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"${{{self.kind}:{self.name}}}"


# Nothing changes the environment of a process that runs.
RESTART: Final = "set it in the environment that the daemon is started with, then restart it"


class Resolver:
    """Looks references up in one environment; relative ${file:…} start at `folder`."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        self.environ = environ

    def __repr__(self) -> str:  # the environment is full of secrets
        return f"Resolver(folder={str(self.folder)!r})"

    def expand(self, template: str) -> str:
        """The template with every reference replaced; files are read now, each time.

        Raises ConfigError for a malformed reference, SecretUnset for one without a value.
        """
        return "".join(
            part if isinstance(part, str) else self._value_of(part) for part in parse(template)
        )

    def _value_of(self, reference: Reference) -> str:
        if reference.kind == "env":
            value = self.environ.get(reference.name, "")
        elif reference.kind == "file":
            value = _read(reference, self.folder / reference.name)
        else:
            directory = self.environ.get("CREDENTIALS_DIRECTORY", "")
            if not directory:
                raise NoCredentials(
                    f"secret {reference} is not set: there is no $CREDENTIALS_DIRECTORY",
                    hint=f"start by systemd with LoadCredential={reference.name}:PATH",
                )
            hint = (
                f"add LoadCredential={reference.name}:PATH to the unit and restart it: "
                "credentials are read once, at its start"
            )
            value = _read(reference, Path(directory) / reference.name, hint)
        if not value:
            raise SecretUnset(
                f"secret {reference} is not set", hint=RESTART if reference.kind == "env" else None
            )
        return value


def parse(template: str) -> list[str | Reference]:
    """Literal texts and references in their order. Raises ConfigError without the text."""
    parts: list[str | Reference] = []
    end = 0
    for match in _TOKEN.finditer(template):
        parts.append(template[end : match.start()])
        end = match.end()
        if match["wrong"] is not None:
            raise ConfigError(
                f"has a dollar at character {match.start() + 1} that begins no reference",
                hint="write $$ for a dollar, or ${env:NAME}, ${file:PATH}, ${credential:NAME}",
            )
        parts.append(_reference(match["kind"], match["name"]) if match["kind"] else "$")
    parts.append(template[end:])
    return [part for part in parts if part]


def _reference(kind: str, name: str) -> Reference:
    reference = Reference(kind, name)
    rules = {
        "env": (_ENV_NAME, "a name of letters, digits and _"),
        "file": (re.compile(r"[^\0]+"), "a path"),
        "credential": (_CREDENTIAL_NAME, "a file name without a slash"),
    }
    if kind not in rules:
        # What stands after an unknown kind may be a misplaced secret: it is not repeated.
        raise ConfigError(
            f"has a reference of unknown kind {kind[:20]!r}",
            hint="there are ${env:NAME}, ${file:PATH} and ${credential:NAME}",
        )
    pattern, rule = rules[kind]
    if pattern.fullmatch(name) is None:
        raise ConfigError(f"has a ${{{kind}:…}} that does not name {rule}")
    return reference


def _read(reference: Reference, path: Path, hint: str | None = None) -> str:
    try:
        text = read_text(path)
    except ConfigError as error:
        words = f"secret {reference} is not set: {path}: {error.message}"
        raise SecretUnset(words, hint=hint) from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def has_reference(template: str) -> bool:
    """Whether anything of this text comes from elsewhere. Raises ConfigError as `parse`."""
    return any(isinstance(part, Reference) for part in parse(template))


def escape(text: str) -> str:
    """A template whose value is this text, whatever dollars it holds."""
    return text.replace("$", "$$")


def mask_url(url: str) -> str:
    """A URL for people: userinfo, query and fragment are ***.

    It also serves for text that is no URL. Where an @ makes it unclear what is userinfo, as in
    a password with a slash or a question mark, more is masked rather than less.
    """
    cut = min((at for at in (url.find("?"), url.find("#")) if at >= 0), default=len(url))
    head, tail = url[:cut], url[cut:]
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|", url)
    start = scheme.end() if scheme else 0
    if "@" in head:
        head = f"{url[:start]}{MASK}@{head.rpartition('@')[2]}"
    elif "@" in tail and not any(split_url(url)):
        return f"{url[:start]}{MASK}"
    return head + (tail[:1] + MASK if tail else "")


def read_text(path: Path) -> str:
    """The whole of a regular file of at most 1 MB as UTF-8 text, a byte order mark taken off.

    Configuration and secrets are read by this one function: a pipe, a device or a huge file in
    their place cannot hold the daemon up. Raises ConfigError whose message is the bare reason,
    such as "No such file or directory"; it names neither the path nor the contents.
    """
    try:
        # Without O_NONBLOCK opening a named pipe waits for a writer, perhaps for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError("it is no regular file")
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(error.strerror or "it cannot be read") from None
    except ValueError:  # a NUL in the path
        raise ConfigError("the path cannot be used") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError("it is larger than 1 MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # The chained error would carry the bytes, which may be a secret.
        raise ConfigError("it is not UTF-8 text") from None
