"""The admin token: made once, kept in `state_dir/admin-token`, one line, readable by us alone."""

import os
import secrets
from pathlib import Path

from relay.buffer.sqlite.private_files import TOKEN_NAME, open_new, read_private


def read_or_make(state_dir: Path) -> str:
    """The token in `state_dir`, made if there is none: 43 URL-safe characters, file mode 0600.

    Raises OSError where something stands there that is not a file.
    """
    try:
        token = read(state_dir)
    except FileNotFoundError:
        token = ""
    if token:
        return token
    token = secrets.token_urlsafe(32)
    # Under another name first: a reader sees no token or the whole of it, never a part.
    path = state_dir / TOKEN_NAME
    fresh = path.with_suffix(".new")
    with os.fdopen(open_new(fresh), "w") as file:
        file.write(token + "\n")
    fresh.replace(path)
    return token


def read(state_dir: Path) -> str:
    """The token of the daemon that owns `state_dir`; raises OSError when it cannot be read."""
    return read_private(state_dir / TOKEN_NAME).decode("utf-8", "replace").strip()
