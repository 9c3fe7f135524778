"""Destinations as configured go in; a running courier for each comes out, kept so by reloads."""

import functools
from collections.abc import Callable, Iterable, Mapping

import anyio
from anyio.abc import TaskGroup

from relay.config import DestinationConfig, resolve_headers
from relay.deliver.courier import Backlog, Courier
from relay.deliver.settings import DestinationSettings
from relay.deliver.upstream import Upstream
from relay.errors import ConfigError, SecretUnset
from relay.records import DestinationStatus
from relay.secrets import Resolver, Secret


class Fleet:
    """All couriers. A destination that leaves the configuration keeps what it is owed on disk."""

    def __init__(
        self,
        backlog_of: Callable[[str], Backlog],
        environ: Mapping[str, str],
        own_id: str,
    ) -> None:
        self._backlog_of = backlog_of
        self._environ = environ
        self._own_id = own_id
        self._couriers: dict[str, Courier] = {}

    def start(self, tasks: TaskGroup, destinations: Iterable[DestinationConfig]) -> None:
        """Start a courier for each destination that has none, in `tasks`."""
        for destination in destinations:
            if destination.name not in self._couriers:
                settings = self._settings(destination)
                courier = Courier(
                    settings,
                    self._backlog_of(destination.name),
                    Upstream(settings, hops=self._own_id),
                    functools.partial(resolve_headers, destination, self._environ),
                )
                self._couriers[destination.name] = courier
                tasks.start_soon(courier.run, name=f"courier {destination.name}")

    async def reload(self, tasks: TaskGroup, destinations: Iterable[DestinationConfig]) -> None:
        """Take up `destinations`: stop what is gone, start what is new, try all at once."""
        wanted = {destination.name: destination for destination in destinations}
        for name in self._couriers.keys() - wanted.keys():
            await self._couriers.pop(name).stop()
        for name, courier in self._couriers.items():
            courier.update(
                self._settings(wanted[name]),
                functools.partial(resolve_headers, wanted[name], self._environ),
            )
        self.start(tasks, wanted.values())

    async def stop(self, grace_seconds: float) -> None:
        """End every courier, each with so long for the request it has out."""
        async with anyio.create_task_group() as stopping:
            for courier in self._couriers.values():
                stopping.start_soon(courier.stop, grace_seconds)

    def statuses(self) -> list[DestinationStatus]:
        """What each courier says of itself, by name."""
        return [courier.status for _name, courier in sorted(self._couriers.items())]

    def _settings(self, destination: DestinationConfig) -> DestinationSettings:
        proxy, blocked_reason = "auto", destination.reload_reason
        if isinstance(destination.proxy, Secret):
            resolver = Resolver(self._environ, destination.folder)
            try:
                proxy = resolver.expand(destination.proxy.reveal())
            except (ConfigError, SecretUnset) as error:
                blocked_reason = blocked_reason or error.message
        else:
            proxy = destination.proxy
        return DestinationSettings(
            name=destination.name,
            endpoint=destination.endpoint,
            encoding=destination.encoding,
            compression=destination.compression,
            timeout_seconds=destination.timeout_seconds,
            ca_file=_text(destination.ca_file),
            client_cert=_text(destination.client_cert),
            client_key=_text(destination.client_key),
            proxy=proxy,
            max_batch_bytes=destination.max_batch_bytes,
            max_batch_spans=destination.max_batch_spans,
            special_doubles=destination.special_doubles,
            paused=destination.paused,
            blocked_reason=blocked_reason,
            header_names=tuple(destination.headers),
        )


def _text(path: object) -> str | None:
    return None if path is None else str(path)
