"""Which configuration the relays that run here have, so that commands find it without `--config`.

A relay leaves a note in a folder of its user's: the path of its configuration, in a file named by
its pid, locked for as long as it lives. The kernel takes the lock from a process that was killed,
so that a note without one is of a relay that runs no more. The folder is
`$XDG_RUNTIME_DIR/otlp-relay`, else `otlp-relay/running` below `$XDG_CACHE_HOME` or `~/.cache`.
A relay leaves none without any of these, nor where its file is in a place that commands look into
anyway, as that of the service is.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.config.load import usual_places


def folder_of(environ: Mapping[str, str]) -> Path | None:
    """Where notes lie; None where the environment names no folder of the user's."""
    for variable, below in (
        ("XDG_RUNTIME_DIR", "otlp-relay"),
        ("XDG_CACHE_HOME", "otlp-relay/running"),
        ("HOME", ".cache/otlp-relay/running"),
    ):
        if environ.get(variable, "").startswith("/"):
            return Path(environ[variable]) / below
    return None


@contextlib.contextmanager
def announced(source: Path | None, environ: Mapping[str, str]) -> Iterator[None]:
    """Leave a note that a relay runs with the configuration `source`, until the block ends.

    A folder that cannot be written to keeps no relay from running: commands then need `--config`.
    """
    folder = folder_of(environ)
    if source is None or folder is None or source in usual_places(environ):
        yield
        return
    note, unlocked = folder / f"{os.getpid()}", folder / f".{os.getpid()}"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unlocked.unlink(missing_ok=True)  # of a process that had this pid before
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = held.enter_context(os.fdopen(os.open(unlocked, flags, 0o600), "wb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(os.fsencode(source))
            file.flush()
            unlocked.rename(note)  # only now anybody looks at it
            held.callback(note.unlink, missing_ok=True)
        yield


def running(environ: Mapping[str, str]) -> list[Path]:
    """The configurations of the user's relays that run, each once. Notes of dead ones are removed.

    Notes that are another user's do not count: whoever could write them would choose what a command
    reads.
    """
    folder = folder_of(environ)
    found = set()
    with contextlib.suppress(OSError):
        for note in folder.iterdir() if folder else ():
            if note.name.isdecimal() and (source := _source_in(note)):
                found.add(source)
    return sorted(found)


def _source_in(note: Path) -> Path | None:
    """What a living relay wrote there; None where none lives."""
    try:
        with os.fdopen(os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read(4096)
                return Path(os.fsdecode(text)) if text else None
            note.unlink()
    except OSError:
        return None
    return None
