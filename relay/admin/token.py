"""The admin token: made once, kept in `state_dir/admin-token`, one line, readable by us alone."""

import os
import secrets
from pathlib import Path

FILE_NAME = "admin-token"


def read_or_make(state_dir: Path) -> str:
    """The token in `state_dir`, made if there is none: 43 URL-safe characters, file mode 0600."""
    path = state_dir / FILE_NAME
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if token:
        return token
    token = secrets.token_urlsafe(32)
    # Under another name first: a reader sees no token or the whole of it, never a part.
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    fresh.replace(path)
    return token


def read(state_dir: Path) -> str:
    """The token of the daemon that owns `state_dir`; raises OSError when it cannot be read."""
    return (state_dir / FILE_NAME).read_text().strip()
