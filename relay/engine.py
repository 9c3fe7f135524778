"""Opens the log that the configuration asks for: SQLite, or Kafka where there is a fleet."""

from typing import TYPE_CHECKING, cast

from relay.buffer.api import Log
from relay.buffer.backlog_name import BacklogName
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.config import Config
from relay.model.counters import Counters
from relay.process.foreign import PrepareForeign

if TYPE_CHECKING:
    from relay.buffer.kafka.log import KafkaLog


def open_log(
    config: Config, settings: BufferSettings, counters: Counters, prepare: PrepareForeign
) -> Log:
    """The log, open; `prepare` is for records of a fleet's topics that no relay wrote.

    Raises BufferFailure, and ConfigError where a fleet's client is not installed or its topics
    promise too little. Without a fleet nothing of it is loaded.
    """
    if config.fleet is None:
        buffer = Buffer(config.state_dir, settings, counters)
        buffer.open()
        return buffer
    from relay.buffer.kafka.client import import_client

    import_client()  # what follows imports it by itself, and would say less
    from relay.buffer.kafka.log import KafkaLog
    from relay.buffer.kafka.settings import KafkaSettings

    kafka = KafkaSettings.of(config.fleet, config.state_dir)
    wanted = [BacklogName(view.name, view.signal) for d in config.destinations for view in d.views]
    fleet = KafkaLog(kafka, settings, config.state_dir, counters, prepare, wanted)
    fleet.open()
    return fleet


async def try_access(log: Log, config: Config) -> None:
    """Find out whether a fleet's brokers let this relay in as `config` says, if that is news.

    Raises ConfigError where they do not.
    """
    if config.fleet is not None and not isinstance(log, Buffer):
        await cast("KafkaLog", log).try_access(config.fleet)


def take_up_access(log: Log, config: Config) -> None:
    """Reach a fleet's brokers as `config` says from now on."""
    if config.fleet is not None and not isinstance(log, Buffer):
        cast("KafkaLog", log).take_up_access(config.fleet)
