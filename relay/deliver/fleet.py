"""Keep a courier for each signal of every destination, also when a reload changes them."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from relay.buffer.api import Consumer, Log
from relay.buffer.backlog_name import BacklogName
from relay.buffer.values import BacklogStatistics
from relay.config import DestinationConfig, resolve_headers
from relay.deliver.courier import Courier
from relay.deliver.sender import Exchanges
from relay.model.records import DestinationStatus, StoredRow

if TYPE_CHECKING:
    from relay.deliver.whole_traces import WholeTraces

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# For the request in flight of a destination that is gone: cut off, it would be sent twice.
GONE_GRACE_SECONDS = 2.0


class Route(NamedTuple):
    """What delivers one signal to one destination."""

    courier: Courier
    consumer: Consumer


class Removed(NamedTuple):
    """What waits under the name of a destination that left the configuration.

    `is_configured`: the destination is still there, and does not get this signal any more.
    """

    backlog: BacklogStatistics
    is_configured: bool

    @property
    def drop_command(self) -> str:
        """What gives up what waits."""
        signal = f" --signal {self.backlog.signal.word}" if self.is_configured else ""
        return f"otlp-relay destination remove {self.backlog.name}{signal} --drop-waiting"


class Fleet:
    """All couriers: one for each destination and signal, so that none holds up another.

    What leaves the configuration, a destination or a signal of one, is owed nothing new from then
    on, and keeps on disk what it is owed.
    """

    def __init__(
        self,
        buffer: Log,
        environ: Mapping[str, str],
        make_upstream: Callable[[DestinationConfig], Exchanges],
        *,
        age_ns: Callable[[StoredRow], int] | None = None,
    ) -> None:
        self._log = buffer
        self._age_ns = age_ns
        self._environ = environ
        self._make_upstream = make_upstream
        self._routes: dict[BacklogName, Route] = {}
        self._whole: dict[str, WholeTraces] = {}  # of destinations that keep traces whole
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup, destinations: Iterable[DestinationConfig]) -> None:
        """Start the couriers of each destination, in `tasks`; paused if a command paused it."""
        self._tasks = tasks
        wanted = _views(destinations)
        self._start_new(wanted)
        self._log.owe_only(wanted)
        self._tell_removed()

    def _start_new(self, wanted: Mapping[BacklogName, DestinationConfig]) -> None:
        if self._tasks is None:
            raise RuntimeError("the fleet was not started")
        for key, view in wanted.items():
            if key not in self._routes:
                self._note_later(key)
                consumer = self._log.consumer(key.destination, signal=key.signal)
                whole, view = self._follow(view, consumer, self._tasks)  # noqa: PLW2901
                courier = Courier(
                    view,
                    consumer,
                    self._make_upstream(view),
                    functools.partial(resolve_headers, environ=self._environ),
                    make_upstream=self._make_upstream,
                    age_ns=self._age_ns,
                    whole=whole,
                )
                if consumer.is_paused:
                    courier.pause()
                self._routes[key] = Route(courier, consumer)
                self._tasks.start_soon(courier.run, name=f"courier {key.text}")
            courier, consumer = self._routes[key]
            consumer.attach(courier.health, functools.partial(_set_paused, courier))

    def _follow(
        self, view: DestinationConfig, consumer: Consumer, tasks: TaskGroup
    ) -> tuple["WholeTraces | None", DestinationConfig]:
        """Let `consumer` lag where that is asked for; the view, blocked where it cannot be."""
        if not (view.is_sampled and view.sample.keeps_whole):
            return None, view
        from relay.deliver.whole_traces import WholeTraces

        if not WholeTraces.can_follow(consumer):
            reason = (
                f"{view.name}: [destinations.{view.name}.sample] keep needs the buffer on this "
                "host's own disk: remove keep, ratio works without it"
            )
            return None, msgspec.structs.replace(view, reload_reason=reason)
        whole = self._whole.get(view.name)
        if whole is None:
            whole = self._whole[view.name] = WholeTraces(view.name, view.sample, self._log)
        whole.follow(consumer, tasks)
        return whole, view

    def _note_later(self, key: BacklogName) -> None:
        """Say of a new one beside others that it is not owed what is kept."""
        known = self._log.consumers()
        has_others = any(each.signal is key.signal for each in known)
        if key not in known and has_others and self._log.statistics().items:
            log.info(
                "destination_begins_now",
                destination=key.destination,
                signal=key.signal.word,
                hint="what is kept is not for it; `otlp-relay replay --to "
                f"{key.destination} --since 1h` sends of that, too",
            )

    async def reload(self, destinations: Iterable[DestinationConfig]) -> None:
        """Take up `destinations`: try all at once, start what is new, stop what is gone."""
        wanted = _views(destinations)
        await self._end_changed_samples(wanted)
        gone = {key: self._routes.pop(key) for key in self._routes.keys() - wanted.keys()}
        for route in gone.values():
            route.consumer.detach()
        for key in self._routes.keys() & wanted.keys():
            self._routes[key].courier.update(wanted[key])
        self._start_new(wanted)
        self._log.owe_only(wanted)
        async with anyio.create_task_group() as stopping:
            for route in gone.values():
                stopping.start_soon(route.courier.stop, GONE_GRACE_SECONDS)
        for key in gone:  # only now: what is held is not decided by half of a trace
            if key.destination in self._whole:
                self._whole[key.destination].leave(key.signal)
        self._tell_removed()  # what was in flight may have been delivered

    async def _end_changed_samples(self, wanted: Mapping[BacklogName, DestinationConfig]) -> None:
        """Stop the couriers of destinations whose sample is another one now: they start anew."""
        ending = []
        for key in self._routes.keys() & wanted.keys():
            sample = wanted[key].sample
            whole = self._whole.get(key.destination)
            if sample != whole.sample if whole is not None else sample.keeps_whole:
                ending.append(key)
        async with anyio.create_task_group() as stopping:
            for key in ending:
                stopping.start_soon(self._routes[key].courier.stop, GONE_GRACE_SECONDS)
        for key in ending:
            del self._routes[key]
            if (whole := self._whole.pop(key.destination, None)) is not None:
                whole.end()

    def _tell_removed(self) -> None:
        for each in self.removed():
            log.warning(
                "removed_destination_waits",
                destination=each.backlog.name,
                signal=each.backlog.signal.word,
                waiting=each.backlog.owed_items,
                hint=f"put it back, or drop them: {each.drop_command}",
            )

    def removed(self) -> list[Removed]:
        """What is still owed to destinations and signals that left the configuration, by name."""
        names = {key.destination for key in self._routes}
        found = sorted(self._log.consumers().items())
        return [
            Removed(backlog, is_configured=key.destination in names)
            for key, consumer in found
            if key not in self._routes and (backlog := consumer.statistics()).owed_items
        ]

    async def set_paused(self, name: str, *, is_paused: bool) -> bool:
        """Pause or resume, on disk when this returns; False when there is no such courier.

        Resuming one that is not paused makes it try at once. Raises BufferUnavailable.
        """
        couriers = [each.courier for key, each in self._routes.items() if key.destination == name]
        if not couriers:
            return False
        await self._log.set_paused(name, is_paused=is_paused)
        for courier in couriers:
            if is_paused:
                courier.pause()
            else:
                courier.resume()
        return True

    async def stop(self, grace_seconds: float) -> None:
        """End every courier, each with so long for the request it has out."""
        async with anyio.create_task_group() as stopping:
            for route in self._routes.values():
                stopping.start_soon(route.courier.stop, grace_seconds)
        for whole in self._whole.values():
            whole.end()

    def views(self) -> list[DestinationConfig]:
        """The settings of each courier, by name and signal."""
        return [route.courier.settings for _, route in sorted(self._routes.items())]

    def statuses(self) -> list[DestinationStatus]:
        """What each courier says of itself, by name and signal."""
        return [route.courier.status for _, route in sorted(self._routes.items())]


def _set_paused(courier: Courier, is_paused: bool) -> None:  # noqa: FBT001 - heard so
    (courier.pause if is_paused else courier.resume)()


def _views(destinations: Iterable[DestinationConfig]) -> dict[BacklogName, DestinationConfig]:
    """Every destination as each of its signals sees it."""
    return {
        BacklogName(view.name, view.signal): view
        for destination in destinations
        for view in destination.views
    }
