"""The files of the saved destinations, as the commands write and delete them.

A file that a command wrote begins with `MARKER`, and only such a file is ever replaced or deleted
by a command: without that line it belongs to a person. Files are 0600 and belong to the owner of
their folder, so that a command run by root leaves them readable for the daemon's own user.

A file appears under its name by a rename, after its contents were synced: whoever lists the folder
at any moment, the daemon on a reload among them, sees the old file, the new one or none. Its
temporary name begins with a dot, which the configuration passes over.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import tomli_w

from relay.config.destinations import NAME, NAME_RULE
from relay.config.secrets import read_text
from relay.model.errors import ConfigError, RelayError
from relay.model.run_as_hint import account_of, hint_for

MARKER: Final = "# Saved by `otlp-relay destination`"
_EXPLANATION: Final = (
    f"{MARKER}: commands may replace and delete this file.",
    "# Take the first line out and it is yours: no command will touch it then.",
)
_COMMENT_CHARACTERS: Final = 400
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]+")


class NotSaved(RelayError):
    """The destination could not be saved or deleted."""

    code = "not_saved"


def path_of(folder: Path, name: str) -> Path:
    """Where a destination is saved. Raises NotSaved for a name that is none."""
    if NAME.fullmatch(name) is None:
        raise NotSaved(f"invalid name {name!r}", hint=NAME_RULE)
    return folder / f"{name}.toml"


def is_ours(path: Path) -> bool:
    """Whether a command wrote this file. What is absent, a link or unreadable is a person's."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        return read_text(path).startswith(MARKER)
    except (OSError, ConfigError):
        return False


def compose(table: Mapping[str, Any], notes: Iterable[str] = ()) -> str:
    """The text of a file: marker, notes as comments, the table in TOML."""
    lines = [*_EXPLANATION, *(f"# {_one_line(note)}" for note in notes)]
    return "\n".join(lines) + "\n\n" + tomli_w.dumps(table)


def save(
    folder: Path,
    name: str,
    table: Mapping[str, Any],
    *,
    notes: Iterable[str] = (),
    may_replace: bool = False,
) -> Path:
    """Write `folder/NAME.toml`, synced when this returns; the folder is made if it is absent.

    Raises NotSaved when the name is taken and may not be replaced, or the disk refuses; then
    what stood there stands as before.
    """
    path = path_of(folder, name)
    try:
        content = compose(table, notes).encode()
    except UnicodeEncodeError:
        # The chained error would carry the text, which may be a secret.
        raise NotSaved("a value is not UTF-8 text, as TOML must be") from None
    try:
        _make_folder(folder)
        with _locked(folder) as directory:
            refuse_taken(path, may_replace=may_replace)
            _put(directory, path.name, content)
    except OSError as error:
        raise _refused(path, "written", error) from None
    return path


def refuse_taken(path: Path, *, may_replace: bool) -> None:
    """Raise NotSaved, which names the file, unless `path` is free or ours to replace."""
    if not os.path.lexists(path):
        return
    if not is_ours(path):
        raise NotSaved(
            f"the name is taken by {path}, which no command wrote",
            hint="edit that file, or choose another name",
        )
    if not may_replace:
        raise NotSaved(
            f"the name is taken by {path}",
            hint="--replace puts this one in its place",
        )


def delete(path: Path) -> None:
    """Delete a file that a command wrote; synced when this returns. Raises NotSaved."""
    try:
        with _locked(path.parent) as directory:
            if not is_ours(path):
                raise NotSaved(f"no command wrote {path}", hint="edit or delete that file yourself")
            os.unlink(path.name, dir_fd=directory)
            os.fsync(directory)
    except OSError as error:
        raise _refused(path, "deleted", error) from None


def _refused(path: Path, done: str, error: OSError) -> NotSaved:
    hint = hint_for(path) if isinstance(error, PermissionError) else None
    return NotSaved(f"{path} cannot be {done}: {error.strerror}", hint=hint)


def _put(directory: int, name: str, content: bytes) -> None:
    """Write, sync, rename, sync the folder. On failure nothing is left behind."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask
            _give_to_owner_of(directory, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _make_folder(folder: Path) -> None:
    """The folder and what is absent above it, 0700, each owned as the folder it stands in."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make_folder(folder.parent)
    with _opened(folder.parent) as parent:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder.name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(folder.name, flags, dir_fd=parent)
        try:
            _give_to_owner_of(parent, made)
        finally:
            os.close(made)
        os.fsync(parent)


def _give_to_owner_of(directory: int, made: int) -> None:
    """Owner and group of the folder, for what was just made in it.

    Raises NotSaved where that is somebody else and we may not: a file of 0600 would then be
    closed to the daemon.
    """
    wanted, actual = os.fstat(directory), os.fstat(made)
    if os.geteuid() == 0:
        os.fchown(made, wanted.st_uid, wanted.st_gid)
    elif wanted.st_uid != actual.st_uid:
        raise NotSaved(
            "the folder belongs to another user, who could not read what is saved in it",
            hint="run this as that user: "
            f"`sudo -u {account_of(wanted.st_uid, wanted.st_gid, 0)} otlp-relay destination …`",
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder's descriptor, while no other command changes what is in it."""
    with _opened(folder) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def _one_line(text: str) -> str:
    """A comment ends with its line: words of others must not go on as TOML behind it."""
    line = " ".join(_UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= _COMMENT_CHARACTERS else f"{line[: _COMMENT_CHARACTERS - 1]}…"
