"""How requests are prepared under a configuration, told from it and from the environment."""

from collections.abc import Mapping

import structlog

from relay.config import Config
from relay.model.errors import ConfigError
from relay.process.enrich import attributes_from_environment, detect
from relay.process.prepare import PrepareSettings

log = structlog.stdlib.get_logger(__name__)


def prepare_settings(config: Config, environ: Mapping[str, str]) -> PrepareSettings:
    """The settings; looks at this host where something is to be detected.

    Of attributes, static ones beat OTEL_RESOURCE_ATTRIBUTES, which beats what is detected.
    """
    try:
        named = attributes_from_environment(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    except ConfigError as error:
        log.warning("environment_ignored", reason=str(error))
        named = {}
    return PrepareSettings(
        malformed_ids=config.ingest.malformed_ids,
        detected=detect(config.enrich.detect),
        configured={**named, **config.enrich.attributes},
    )
