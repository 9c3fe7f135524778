"""The key of the hashes that stand for what was redacted: made once, kept in the state directory.

With it the hash of one value is always the same, and without it nobody can try values out. Who
deletes the file gets other hashes from then on.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from relay.model.errors import ConfigError

BYTES = 32


def hash_key(path: Path) -> bytes:
    """The key in that file, which is made if it is absent, 0600.

    Raises ConfigError when it can be neither read nor made, or is no key.
    """
    try:
        with suppress(FileExistsError):
            _make(path)
        key = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise ConfigError(
            f"the key for hashes, {path}, cannot be read or made: {error.strerror}"
        ) from None
    except ValueError:
        key = b""
    if len(key) != BYTES:
        raise ConfigError(
            f"{path} holds no key for hashes",
            hint="delete it, then reload: what is hashed from then on differs from before",
        )
    return key


def _make(path: Path) -> None:
    """Whole or not at all: another process may want it at the same time."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()
