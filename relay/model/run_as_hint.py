"""The account to run a command as, where a path may not be read.

The packaged daemon is a user of its own, with a state directory that is closed to others and a
configuration `0640 root:otlp-relay`. Who runs a command as himself is told what to type instead.
"""

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

DENIED = os.strerror(errno.EACCES)


def hint_for(path: Path) -> str:
    """What to type, naming the account that may read `path` as it is now."""
    account = account_for(path)
    sudo = "sudo" if account == "root" else f"sudo -u {account}"
    return f"run this as {account}: `{sudo} otlp-relay …`"


def account_for(path: Path) -> str:
    """The account that may read `path`; of the nearest folder where only that can be looked at."""
    for place in (path, *path.absolute().parents):
        try:
            found = place.stat()
        except OSError:
            continue
        return account_of(found.st_uid, found.st_gid, found.st_mode)
    return "root"


def account_of(uid: int, gid: int, mode: int) -> str:
    """The owner; where that is root and a group may read, the user who has the group's name."""
    if uid == 0 and mode & stat.S_IRGRP:
        try:
            return pwd.getpwnam(grp.getgrgid(gid).gr_name).pw_name
        except KeyError:
            return "root"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"  # as sudo takes a number
