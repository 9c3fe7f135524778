"""Says what is wrong with the disk, and what to do about it, by what SQLite or the system said."""

import errno

import apsw

_NUMBER = "system_errno"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ADVICE = {
    errno.ENOSPC: "the file system is full: make room on it",
    errno.EDQUOT: "the quota on the file system is used up: raise it, or make room",
    errno.EROFS: "the file system is read-only: find out why (`dmesg`), and mount it writable",
    errno.EIO: "the disk fails to read or write: look at `dmesg` and at the disk",
    errno.EACCES: "the state directory may not be written by this user: look at its owner and mode",
    errno.EPERM: "the state directory may not be written by this user: look at its owner and mode",
}


def number_of(error: BaseException, connection: apsw.Connection | None = None) -> int:
    """The errno behind `error`, 0 where there is none to be known.

    SQLite calls a quota an I/O error; `connection`, where it was met, knows better.
    """
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, apsw.FullError):
        return errno.ENOSPC
    if isinstance(error, apsw.ReadOnlyError):
        return errno.EROFS
    if isinstance(error, apsw.IOError):
        found: int = getattr(error, _NUMBER, 0)
        if connection is not None:
            found = connection.system_errno
        return found if found in _ADVICE else errno.EIO
    return 0


def remember_number(error: BaseException, connection: apsw.Connection) -> None:
    """Let `error` tell its errno when `connection`, where it was met, is closed."""
    setattr(error, _NUMBER, connection.system_errno)


def is_no_space(error: BaseException, connection: apsw.Connection | None = None) -> bool:
    """Whether the file system, or a quota on it, had no space."""
    return number_of(error, connection) in NO_SPACE


def words_for(error: BaseException, connection: apsw.Connection | None = None) -> str:
    """One sentence for `status`, with what was said."""
    return f"{advice_for(error, connection)}; it is tried again every second"


def advice_for(error: BaseException, connection: apsw.Connection | None = None) -> str:
    """What it is, what to do, and what was said."""
    said = f"{type(error).__name__}: {error}"
    advice = _ADVICE.get(number_of(error, connection))
    return f"{advice} ({said})" if advice else said


def limit_for(error: BaseException, connection: apsw.Connection | None = None) -> str:
    """The same for who is refused while there is no space."""
    return _ADVICE[number_of(error, connection)]
