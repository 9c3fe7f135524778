"""Puts a few settings into a file that belongs to another program, and keeps what stood there.

The new text is made and checked before anything is written; it appears by a rename, with the mode
of the old file, which stays beside it under a name with the time.
"""

import difflib
import json
import os
import secrets
import stat
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.model.errors import RelayError

_LIMIT_BYTES = 10_000_000


class NotWritten(RelayError):
    """The file stands as it did."""

    code = "not_written"


@dataclass(frozen=True, slots=True)
class Change:
    """What a file holds, and what it is to hold."""

    path: Path
    """Links resolved: what they lead to is replaced, not they."""
    before: str | None
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether anything is missing in the file."""
        return self.before != self.after

    def difference(self) -> list[str]:
        """The lines that go and come."""
        old, new = (self.before or "").splitlines(), self.after.splitlines()
        name = str(self.path)
        return list(difflib.unified_diff(old, new, name, name, lineterm=""))

    def write(self) -> Path | None:
        """Where the file as it was is kept; None if there was none. Raises NotWritten."""
        if not self.is_needed:
            return None
        backup = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = 0o600
            if self.before is not None:
                mode = stat.S_IMODE(self.path.stat().st_mode)
                label = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                backup = self.path.with_name(f"{self.path.name}.{label}.{secrets.token_hex(2)}")
                _put(backup, self.before, mode)
            partial = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
            _put(partial, self.after, mode)
            partial.replace(self.path)
        except OSError as error:
            raise NotWritten(f"{self.path} cannot be written: {error.strerror}") from None
        return backup


def plan(path: Path, text: str, form: str) -> Change:
    """How `text`, which is JSON or TOML, comes into the file. Raises NotWritten."""
    path = path.absolute().resolve()
    before = _read(path)
    put_in = {"json": _with_json, "toml": _with_toml}[form]
    return Change(path, before, put_in(path, before or "", text))


def _with_json(path: Path, before: str, text: str) -> str:
    try:
        found = json.loads(before) if before.strip() else {}
    except ValueError:
        raise _by_hand(path, "holds comments or is no JSON", text) from None
    wanted = json.loads(text)
    if not isinstance(found, dict):
        raise _by_hand(path, "is no JSON object", text)
    merged = _merged(found, wanted)
    if merged == found and before.strip():
        return before
    return json.dumps(merged, indent=2, ensure_ascii=False) + "\n"


def _merged(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """`found`, with what is wanted laid over it, table by table."""
    merged = dict(found)
    for key, value in wanted.items():
        inner = merged.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged


def _with_toml(path: Path, before: str, text: str) -> str:
    """The text at the end: a file that is written anew would lose its comments."""
    try:
        found = tomllib.loads(before)
    except ValueError as error:
        raise NotWritten(f"{path} is no TOML: {error}", hint="mend it first") from None
    wanted = tomllib.loads(text)
    if all(found.get(key) == value for key, value in wanted.items()):
        return before
    taken = [key for key in wanted if key in found]
    if taken:
        raise _by_hand(path, f"has a table [{taken[0]}] already", text)
    gap = "\n" if before.strip() else ""
    newline = "" if not before or before.endswith("\n") else "\n"
    after = f"{before}{newline}{gap}{text}\n"
    if tomllib.loads(after) != found | wanted:
        raise _by_hand(path, "does not end where a table can follow", text)
    return after


def _by_hand(path: Path, why: str, text: str) -> NotWritten:
    first = text.strip().splitlines()[0]
    return NotWritten(
        f"{path} {why}, and was left as it is",
        hint=f"put the lines in by hand, from {first!r} on: the command without --write shows them",
    )


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotWritten(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _LIMIT_BYTES:
        raise NotWritten(f"{path} is too large for a settings file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise NotWritten(f"{path} is no UTF-8 text") from None


def _put(path: Path, text: str, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
