"""`otlp-relay fleet import`: moves a single relay's buffer into the fleet."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
import click

from relay.buffer.backlog_name import BacklogName
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.buffer import Buffer
from relay.cli.fleet_status import fleet_settings
from relay.cli.options import config_option, json_option, load_or_exit
from relay.cli.output import fail, say, say_json
from relay.config import Config
from relay.model.counters import Counters
from relay.model.errors import BufferUnavailable, ConfigError, RelayError
from relay.model.nouns import counted

if TYPE_CHECKING:
    from relay.buffer.kafka.move_in import Moved
    from relay.buffer.kafka.settings import KafkaSettings


@click.command("import")
@config_option
@json_option
def move(config_path: str | None, as_json: bool) -> None:
    """Move what this host's buffer still owes into the fleet, without loss.

    For the step from one relay to several: stop the relay, add [fleet] to its configuration, run
    this, start it again. Each destination of the configuration is owed by the fleet what it was
    owed here; dead letters move too. Interrupted, start it again: it goes on where it was, and what
    was on its way then is delivered twice.

    When nothing is left the buffer's files get the ending .moved-TIME, and may be removed.
    What was delivered already is not moved. Exits 1 when something is left.
    """
    config = load_or_exit(config_path)
    try:
        settings = fleet_settings(config)
        if not (config.state_dir / "relay.db").exists():
            raise ConfigError(f"there is no buffer in {config.state_dir}: nothing to move")
        ready(settings)
        moved = anyio.run(_move, config, settings)
    except RelayError as error:
        fail(error)
    place = ""
    if not moved.left:
        from relay.buffer.kafka.move_in import set_aside

        place = str(set_aside(config.state_dir))
    if as_json:
        say_json({**asdict(moved), "buffer": place})
    else:
        tell(moved, place)
    raise SystemExit(1 if moved.left else 0)


def ready(settings: "KafkaSettings") -> None:
    """Make the fleet's topics ready. Raises ConfigError, BufferUnavailable."""
    from relay.buffer.kafka.access import BrokersAway
    from relay.buffer.kafka.topics import Topics

    try:
        promise = Topics(settings).make_ready()
    except BrokersAway as error:
        raise BufferUnavailable(str(error)) from None
    why = promise.refusal(allow_weak=settings.fleet.allow_weak)
    if why:
        raise ConfigError(why, key="fleet")


async def _move(config: Config, settings: "KafkaSettings") -> "Moved":
    from relay.buffer.kafka.bridge import Bridge
    from relay.buffer.kafka.move_in import move_in

    wanted = [BacklogName(view.name, view.signal) for d in config.destinations for view in d.views]
    source = Buffer(config.state_dir, BufferSettings.of(config.buffer), Counters())
    source.open()
    bridge = Bridge(settings)
    try:
        bridge.start()
        return await move_in(source, wanted, settings, bridge)
    finally:
        with anyio.CancelScope(shield=True):
            await bridge.close()
            await source.close()


def tell(moved: "Moved", place: str) -> None:
    """In words."""
    for name, items in sorted(moved.items.items()):
        say(f"{name}: {counted(items, 'item')} moved into the fleet")
    if moved.dead_letters:
        say(f"{counted(moved.dead_letters, 'dead letter')} moved")
    if not moved.items and not moved.dead_letters:
        say("nothing waited here")
    for name, items in sorted(moved.left.items()):
        say(
            f"otlp-relay: {counted(items, 'item')} for {name} left here: it is not in the "
            "configuration; add it, or drop them with `otlp-relay destination remove`",
            err=True,
        )
    if place:
        say(f"the buffer is empty, and is now {place}: remove it when the fleet delivers")
