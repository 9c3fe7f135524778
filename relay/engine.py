"""Opens the log that the configuration asks for: SQLite, or Kafka where there is a fleet."""

from relay.buffer.api import Log
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.config import Config
from relay.model.counters import Counters
from relay.process.foreign import PrepareForeign


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
    fleet = KafkaLog(kafka, settings, config.state_dir, counters, prepare)
    fleet.open()
    return fleet
