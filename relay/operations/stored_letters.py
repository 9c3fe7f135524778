"""A state directory in, what the admin API would tell of its dead letters out: no daemon needed.

The file is opened read-only, as the daemon's own reader does, so one that starts meanwhile is not
in its way.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import apsw
import msgspec

from relay.admin.dead_letters import answer
from relay.buffer.schema import APPLICATION_ID, CORRUPT_ERRORS, DISK_ERRORS, open_reader
from relay.buffer.schema import SCHEMA_VERSION as OURS
from relay.errors import BufferUnavailable
from relay.operations.letter_looking import Looking, Result

DATABASE = "relay.db"


class StoredLetters:
    """Answers GET on dead letters from the file itself."""

    def __init__(self, state_dir: Path) -> None:
        self._database = state_dir / DATABASE

    @property
    def is_there(self) -> bool:
        """Whether there is a file at all."""
        return self._database.exists()

    def get(self, path: str) -> dict[str, Any]:
        """The document of a path of the admin API, such as `/api/dead-letters/17`.

        Raises BufferUnavailable when the file cannot be read, and what `admin.dead_letters.look`
        raises.
        """
        try:
            connection = open_reader(self._database, vfs=None)
            try:
                self._must_be_ours(connection)
                letters = Looking(partial(_ask, connection))
                found = anyio.run(answer, letters, path)
                return dict(msgspec.json.decode(msgspec.json.encode(found)))
            finally:
                connection.close(force=True)
        except (*CORRUPT_ERRORS, *DISK_ERRORS) as error:
            raise BufferUnavailable(f"{self._database} cannot be read: {error}") from None

    def _must_be_ours(self, connection: apsw.Connection) -> None:
        version = connection.pragma("user_version")
        if connection.pragma("application_id") != APPLICATION_ID or version != OURS:
            raise BufferUnavailable(
                f"{self._database} is not of this version (schema {version}, not {OURS})",
                hint="start the relay: it takes the file up",
            )


async def _ask(
    connection: apsw.Connection, question: Callable[[apsw.Connection], Result]
) -> Result:
    return question(connection)
