"""Loads the client library where it is needed first, and makes its clients with one tongue."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from relay.buffer.kafka.settings import ClientSettings, KafkaSettings
from relay.model.errors import ConfigError

INSTALL_HINT: Final = "pip install 'otlp-relay[fleet]'"
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Client:
    """The library: `module` writes and reads, `admin` makes topics and reads their settings."""

    module: Any
    admin: Any

    def make(self, kind: Any, told: ClientSettings, **heard: Callable[[Any], None]) -> Any:
        """A client of that kind, and what it calls. Raises ConfigError for unusable settings."""
        try:
            return kind({**told, **heard}, logger=_SILENT)
        except self.module.KafkaException as error:
            raise ConfigError(f"cannot be used: {error.args[0].str()}", key="fleet") from None


_SILENT = logging.getLogger("confluent_kafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


def import_client() -> Client:
    """The library. Raises ConfigError that says how to install it."""
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError:
        raise ConfigError(
            "needs a library that is not installed", key="fleet", hint=INSTALL_HINT
        ) from None
    return Client(confluent_kafka, confluent_kafka.admin)


class Renewed(Generic[Made]):
    """What is made of the settings where it is needed first, and anew once they have changed."""

    def __init__(self, settings: KafkaSettings, make: Callable[[], Made]) -> None:
        self._settings = settings
        self._make = make
        self._made: tuple[int, Made] | None = None  # and of which version

    def __call__(self) -> Made:
        """It, as the brokers are to be reached now. Raises what `make` raises."""
        version = self._settings.version
        if self._made is None or self._made[0] != version:
            self._made = version, self._make()
        return self._made[1]


def renewed_admin(settings: KafkaSettings) -> Renewed[Any]:
    """An admin client. Raises ConfigError when it cannot be made."""
    client = import_client()
    return Renewed(settings, lambda: client.make(client.admin.AdminClient, settings.client()))
