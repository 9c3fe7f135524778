"""How requests are prepared under a configuration, told from it and from the environment."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from relay.config import Config
from relay.config.steps import ProcessConfig
from relay.model.errors import ConfigError
from relay.process.enrich import attributes_from_environment, detect
from relay.process.prepare import PrepareSettings

if TYPE_CHECKING:
    from relay.process.before_kept import BeforeKept

log = structlog.stdlib.get_logger(__name__)


def prepare_settings(config: Config, environ: Mapping[str, str]) -> PrepareSettings:
    """The settings; looks at this host, or at the environment, where that is to be detected.

    The environment is asked only then, and its attributes are for senders on this host as all that
    is detected: OTEL_RESOURCE_ATTRIBUTES is meant for programs beside the relay as a rule. Static
    attributes beat it, and it beats the rest.
    """
    found = detect(config.enrich.detect)
    if "env" in config.enrich.detect:
        try:
            found |= attributes_from_environment(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        except ConfigError as error:
            log.warning("environment_ignored", reason=str(error))
    return PrepareSettings(
        malformed_ids=config.ingest.malformed_ids,
        detected=found,
        configured=config.enrich.attributes,
    )


def before_kept(config: ProcessConfig) -> "BeforeKept | None":
    """What `[process]` asks for; None where that is nothing. Raises ConfigError where the key of
    its hashes can be neither read nor made.
    """
    if not config:
        return None
    from relay.process.before_kept import BeforeKept

    return BeforeKept(config)
