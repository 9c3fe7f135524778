"""Keep a courier for every destination that is configured, also when a reload changes them."""

import functools
from collections.abc import Callable, Iterable, Mapping

import anyio
from anyio.abc import TaskGroup

from relay.buffer.api import Log
from relay.config import DestinationConfig, resolve_headers
from relay.deliver.courier import Courier
from relay.model.records import DestinationStatus, StoredRow
from relay.upstream.exchange import Upstream

# For the request in flight of a destination that is gone: cut off, it would be sent twice.
GONE_GRACE_SECONDS = 2.0


class Fleet:
    """All couriers. A destination that leaves the configuration keeps what it is owed on disk."""

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
        self._couriers: dict[str, Courier] = {}
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup, destinations: Iterable[DestinationConfig]) -> None:
        """Start a courier for each destination, in `tasks`; paused if a command paused it."""
        self._tasks = tasks
        self._start_new(destinations)

    def _start_new(self, destinations: Iterable[DestinationConfig]) -> None:
        if self._tasks is None:
            raise RuntimeError("the fleet was not started")
        for destination in destinations:
            if destination.name not in self._couriers:
                consumer = self._log.consumer(destination.name)
                courier = Courier(
                    destination,
                    consumer,
                    Upstream(destination, hops=self._own_id),
                    functools.partial(resolve_headers, environ=self._environ),
                    make_upstream=functools.partial(Upstream, hops=self._own_id),
                    age_ns=self._age_ns,
                )
                if consumer.is_paused:
                    courier.pause()
                self._couriers[destination.name] = courier
                consumer.attach(courier.health)
                self._tasks.start_soon(courier.run, name=f"courier {destination.name}")

    async def reload(self, destinations: Iterable[DestinationConfig]) -> None:
        """Take up `destinations`: try all at once, start what is new, stop what is gone."""
        wanted = {destination.name: destination for destination in destinations}
        names = self._couriers.keys() - wanted.keys()
        gone = [self._couriers.pop(name) for name in names]
        for name in names:
            self._log.consumer(name).detach()
        for name, courier in self._couriers.items():
            courier.update(wanted[name])
        self._start_new(wanted.values())
        async with anyio.create_task_group() as stopping:
            for courier in gone:
                stopping.start_soon(courier.stop, GONE_GRACE_SECONDS)

    async def set_paused(self, name: str, *, is_paused: bool) -> bool:
        """Pause or resume, on disk when this returns; False when there is no such courier.

        Resuming one that is not paused makes it try at once. Raises BufferUnavailable.
        """
        courier = self._couriers.get(name)
        if courier is None:
            return False
        await self._log.set_paused(name, is_paused=is_paused)
        if is_paused:
            courier.pause()
        else:
            courier.resume()
        return True

    async def stop(self, grace_seconds: float) -> None:
        """End every courier, each with so long for the request it has out."""
        async with anyio.create_task_group() as stopping:
            for courier in self._couriers.values():
                stopping.start_soon(courier.stop, grace_seconds)

    def statuses(self) -> list[DestinationStatus]:
        """What each courier says of itself, by name."""
        return [courier.status for _name, courier in sorted(self._couriers.items())]
