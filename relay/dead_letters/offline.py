"""Looks at dead letters in the file of a relay that does not run.

The file is opened read-only, as the daemon's own reader does, so one that starts meanwhile is not
in its way.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from relay.buffer.sqlite.dead_letter_queries import SqliteDeadLetterReader
from relay.buffer.sqlite.reader import ask_directly
from relay.config import Config
from relay.dead_letters.look import Looking
from relay.dead_letters.redactions import Redactions
from relay.offline.file import open_buffer

Found = TypeVar("Found")


def look_at_rest(config: Config, question: Callable[[Looking], Awaitable[Found]]) -> Found:
    """What `question` finds in the file of `config`.

    Raises NoBuffer where there is no buffer, BufferUnavailable when its file cannot be read,
    and what the question raises.
    """
    redact = Redactions(lambda: config.destinations)
    with open_buffer(config.state_dir, is_of_this_version=True) as file:
        reader = SqliteDeadLetterReader(ask_directly(file.connection))
        return anyio.run(question, Looking(reader, redact))
