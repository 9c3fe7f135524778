"""What can be asked under `/api/` beside status and control, each topic in; its routes out."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.routing import Route

from relay.admin import dead_letters, replay, trace_routes
from relay.admin.control import Endpoint


@dataclass(frozen=True, slots=True)
class Topics:
    """Who answers for each topic."""

    traces: trace_routes.Traces
    replays: replay.Replay
    letters: dead_letters.DeadLetters

    def routes(self, authorized: Callable[[Endpoint], Endpoint]) -> list[Route]:
        """The routes of all, each behind `authorized`."""
        return [
            *trace_routes.routes(self.traces, authorized),
            *replay.routes(self.replays, authorized),
            *dead_letters.routes(self.letters, authorized),
        ]
