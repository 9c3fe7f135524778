"""Dead letters as their destination would have seen them: redacted, unless somebody asks otherwise.

On disk a dead letter holds its items as they were kept, so that a replay is stepped as everything
else. Looked at and exported, they are redacted as the configuration of their destination says now.
What cannot be redacted, damaged bytes among it, is not shown. Nor is what was for a destination
that has left the configuration: its rules went with it, and nobody can say what they kept from
sight.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from relay.buffer.values import StoredDeadLetter
from relay.config import DestinationConfig
from relay.config.steps import RedactConfig
from relay.model.errors import ConfigError
from relay.otlp.transcode import TranscodeError

if TYPE_CHECKING:
    from relay.process.steps.run import Steps

HIDDEN = "it cannot be redacted as its destination asks; --unredacted shows it as it is"
GONE = (
    "{name} has left the configuration, and what it redacts went with it: put {name} back, "
    "or --unredacted shows it as it is"
)


class Redactions:
    """What the destinations of a configuration redact; `configured` are they as they are now."""

    def __init__(self, configured: Callable[[], Sequence[DestinationConfig]]) -> None:
        self._configured = configured
        self._known: tuple[RedactConfig, Steps] | None = None

    def __call__(self, stored: StoredDeadLetter) -> StoredDeadLetter:
        """The letter as it may be seen."""
        name = stored.letter.destination
        if not name:
            return stored  # rejected on the way in, where `[process]` redacts before it is kept
        settings = next((each for each in self._configured() if each.name == name), None)
        if settings is None:
            return _hidden(stored, GONE.format(name=name))
        if not settings.redact:
            return stored
        letter = stored.letter
        try:
            steps = self._steps(settings.redact)
            stepped = steps.run(letter.body, letter.encoding, letter.signal)
        except (ConfigError, TranscodeError):
            stepped = None
        if stepped is None or stepped.failed or stored.is_damaged:
            return _hidden(stored, HIDDEN)
        return replace(stored, letter=replace(letter, body=stepped.body))

    def _steps(self, config: RedactConfig) -> "Steps":
        """Compiled once, as long as letters of one destination are looked at."""
        if self._known is None or self._known[0] != config:
            from relay.process.steps.run import redacting

            self._known = (config, redacting(config))
        return self._known[1]


def _hidden(stored: StoredDeadLetter, why: str) -> StoredDeadLetter:
    return replace(stored, letter=replace(stored.letter, body=b""), hidden=why)
