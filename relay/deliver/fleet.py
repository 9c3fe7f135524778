"""Keep a courier for each signal of every destination, also when a reload changes them."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup

from relay.buffer.api import Consumer, Log
from relay.buffer.backlog_name import BacklogName
from relay.config import DestinationConfig, resolve_headers
from relay.deliver.courier import Courier
from relay.model.records import DestinationStatus, StoredRow
from relay.upstream.exchange import Upstream

# For the request in flight of a destination that is gone: cut off, it would be sent twice.
GONE_GRACE_SECONDS = 2.0


class Route(NamedTuple):
    """What delivers one signal to one destination."""

    courier: Courier
    consumer: Consumer


class Fleet:
    """All couriers: one for each destination and signal, so that none holds up another.

    A destination that leaves the configuration keeps what it is owed on disk. A signal that a
    destination does not get any more is delivered as far as it is owed, as long as the daemon runs
    and the destination stands; after that it is kept likewise.
    """

    def __init__(
        self,
        log: Log,
        environ: Mapping[str, str],
        own_id: str,
        *,
        age_ns: Callable[[StoredRow], int] | None = None,
    ) -> None:
        self._log = log
        self._age_ns = age_ns
        self._environ = environ
        self._own_id = own_id
        self._routes: dict[BacklogName, Route] = {}
        self._ending: set[BacklogName] = set()  # signals taken away, what is owed of them is sent
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup, destinations: Iterable[DestinationConfig]) -> None:
        """Start the couriers of each destination, in `tasks`; paused if a command paused it."""
        self._tasks = tasks
        self._start_new(_views(destinations))

    def _start_new(self, wanted: Mapping[BacklogName, DestinationConfig]) -> None:
        if self._tasks is None:
            raise RuntimeError("the fleet was not started")
        for key, view in wanted.items():
            if key not in self._routes:
                consumer = self._log.consumer(key.destination, signal=key.signal)
                courier = Courier(
                    view,
                    consumer,
                    Upstream(view, hops=self._own_id),
                    functools.partial(resolve_headers, environ=self._environ),
                    make_upstream=functools.partial(Upstream, hops=self._own_id),
                    age_ns=self._age_ns,
                )
                if consumer.is_paused:
                    courier.pause()
                self._routes[key] = Route(courier, consumer)
                self._tasks.start_soon(courier.run, name=f"courier {key.text}")
            courier, consumer = self._routes[key]
            consumer.attach(courier.health)

    async def reload(self, destinations: Iterable[DestinationConfig]) -> None:
        """Take up `destinations`: try all at once, start what is new, stop what is gone."""
        wanted = _views(destinations)
        names = {key.destination for key in wanted}
        gone = []
        for key in self._routes.keys() - wanted.keys():
            courier, consumer = self._routes[key]
            if key.destination in names and (key in self._ending or self._is_owed(key)):
                consumer.close()
                courier.wake()
                self._ending.add(key)
            else:
                del self._routes[key]
                consumer.detach()
                gone.append(courier)
        self._ending &= self._routes.keys() - wanted.keys()
        for key in self._routes.keys() & wanted.keys():
            self._routes[key].courier.update(wanted[key])
        self._start_new(wanted)
        async with anyio.create_task_group() as stopping:
            for courier in gone:
                stopping.start_soon(courier.stop, GONE_GRACE_SECONDS)

    def _is_owed(self, key: BacklogName) -> bool:
        return bool(self._routes[key].consumer.statistics().owed_items)

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

    def statuses(self) -> list[DestinationStatus]:
        """What each courier says of itself, by name and signal; without those whose signal was
        taken away and that have delivered all.
        """
        return [
            route.courier.status
            for key, route in sorted(self._routes.items())
            if key not in self._ending or self._is_owed(key)
        ]


def _views(destinations: Iterable[DestinationConfig]) -> dict[BacklogName, DestinationConfig]:
    """Every destination as each of its signals sees it."""
    return {
        BacklogName(view.name, view.signal): view
        for destination in destinations
        for view in destination.views
    }
