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
from relay.dead_letters.look import Looking, Result
from relay.offline.file import kept


class StoredLetters:
    """Answers GET on dead letters from the file itself."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    @property
    def is_there(self) -> bool:
        """Whether there is a file at all."""
        return (self._state_dir / "relay.db").exists()

    def get(self, path: str) -> dict[str, Any]:
        """The document of a path of the admin API, such as `/api/dead-letters/17`.

        Raises BufferUnavailable when the file cannot be read, and what `admin.dead_letters.look`
        raises.
        """
        with kept(self._state_dir, is_of_this_version=True) as file:
            found = anyio.run(answer, Looking(partial(_ask, file.connection)), path)
            return dict(msgspec.json.decode(msgspec.json.encode(found)))


async def _ask(
    connection: apsw.Connection, question: Callable[[apsw.Connection], Result]
) -> Result:
    return question(connection)
