"""Keeps the state directory private, and opens its files so that nobody else's stand in for them.

What is kept holds prompts and the admin token. Where others may write in the directory they can
plant a link, a file of theirs or a token they know; where they may read, everything is theirs. So a
start narrows modes that are too wide, refuses what belongs to somebody else, and follows no link.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from relay.model.errors import BufferUnusable
from relay.model.run_as_hint import account_of

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

SAVED_DESTINATIONS = "destinations.d"  # where the packaged service keeps them
TOKEN_NAME = "admin-token"  # noqa: S105 - where it stands
_OTHERS = 0o077
_WRITE = 0o022
_OURS = re.compile(
    rf"lock|reserve|(?:last-row|{TOKEN_NAME})(?:\.new)?"
    r"|relay\.db(?:-wal|-shm|-journal|\.(?:corrupt|schema-\d+)-.*)?"
)


class Exposure(NamedTuple):
    """What others could have done, or can do, to a file of the state directory or to itself."""

    path: Path
    words: str
    hint: str  # what to do, else it is refused; empty: the next start goes on
    mode: int  # which that start narrows; 0: none


def exposures(directory: Path) -> Iterator[Exposure]:
    """What is not private in `directory`, itself first; nothing where it may not be looked at."""
    try:
        own = directory.stat()
        if own.st_mode & _OTHERS:
            yield _open_directory(directory, own.st_mode)
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        if not _OURS.fullmatch(path.name):
            continue
        try:
            found = path.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(found.st_mode):
            hint = "remove the link; to keep the data elsewhere, set state_dir to that directory"
            yield Exposure(path, f"{path} is a symbolic link, and none is followed", hint, 0)
        elif found.st_uid != own.st_uid:
            yield _foreign(path, found.st_uid, own.st_uid)
        elif stat.S_ISREG(found.st_mode) and found.st_mode & _OTHERS:
            yield _wide(path, found.st_mode)


def _open_directory(directory: Path, mode: int) -> Exposure:
    """One that serves others as well, such as /tmp or /var/lib, is not closed to them."""
    if mode & stat.S_ISVTX and mode & _WRITE:
        words = f"{directory} is shared by all users (mode {stat.S_IMODE(mode):04o})"
        return Exposure(directory, words, "set state_dir to a directory of its own", 0)
    names = {path.name for path in directory.iterdir()} - {SAVED_DESTINATIONS}
    if not mode & _WRITE and not all(map(_OURS.fullmatch, names)):
        words = f"{directory} has mode {stat.S_IMODE(mode):04o} and holds other things, too: it"
        return Exposure(
            directory, f"{words} stays so, and state_dir should be one of its own", "", 0
        )
    return _wide(directory, mode)


def _wide(path: Path, mode: int) -> Exposure:
    mode = stat.S_IMODE(mode)
    end = "is replaced" if path.name == TOKEN_NAME else f"becomes {mode & ~_OTHERS:04o}"
    words = f"{path} has mode {mode:04o}, open to other users: at the next start it {end}"
    return Exposure(path, words, "", mode)


def _foreign(path: Path, uid: int, wanted: int) -> Exposure:
    names = [account_of(each, 0, 0).strip("'") for each in (uid, wanted)]
    hint = f"if you trust what it holds: `chown {names[1]} {path}`; else move it away"
    return Exposure(path, f"{path} belongs to {names[0]}, not to {names[1]}", hint, 0)


def make_private(directory: Path) -> None:
    """Close `directory` and our files in it to other users, and say what was open.

    Raises BufferUnusable, with what to do, where a link or another's file stands, OSError.
    """
    found = directory.stat()
    if found.st_uid != os.geteuid():
        foreign = _foreign(directory, found.st_uid, os.geteuid())
        raise BufferUnusable(foreign.words, hint="run this as its owner, or set another state_dir")
    # The directory comes first: once it is closed nothing can be planted any more.
    for each in exposures(directory):
        if each.hint:
            raise BufferUnusable(each.words, hint=each.hint)
        try:
            if not each.mode:
                log.warning("state_stays_open", path=str(each.path), error="it is not ours alone")
                continue
            if each.path.name == TOKEN_NAME:
                each.path.unlink()  # a token that others could read, or write, is no secret
            else:
                each.path.chmod(each.mode & ~_OTHERS)
        except OSError as error:  # a file system without modes
            log.warning("state_stays_open", path=str(each.path), error=error.strerror)
        else:
            log.warning("state_made_private", path=str(each.path), mode=f"{each.mode:04o}")


def open_private(path: Path, flags: int) -> int:
    """`os.open`, of a regular file only and through no link; a new one is 0600. Raises OSError."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)  # of a FIFO it would wait
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def open_new(path: Path) -> int:
    """To write `path` anew, whatever stands there: it may be of a process that was killed."""
    path.unlink(missing_ok=True)
    return open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def read_private(path: Path) -> bytes:
    """All that is in `path`. Raises OSError."""
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read()
