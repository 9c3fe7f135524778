"""Looks at dead letters in the file of a relay that does not run.

The file is opened read-only, as the daemon's own reader does, so one that starts meanwhile is not
in its way.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio

from relay.buffer.sqlite.dead_letter_queries import SqliteDeadLetterReader
from relay.buffer.sqlite.reader import ask_directly
from relay.dead_letters.look import Looking
from relay.offline.file import open_buffer

Found = TypeVar("Found")


def look_at_rest(state_dir: Path, question: Callable[[Looking], Awaitable[Found]]) -> Found:
    """What `question` finds.

    Raises NoBuffer where there is no buffer, BufferUnavailable when its file cannot be read,
    and what the question raises.
    """
    with open_buffer(state_dir, is_of_this_version=True) as file:
        return anyio.run(question, Looking(SqliteDeadLetterReader(ask_directly(file.connection))))
