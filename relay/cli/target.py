"""Where the daemon of a configuration listens, for commands that talk to it."""

from relay.cli.client import DaemonClient
from relay.config import Config, ListenAddress


def ingest_address(config: Config) -> ListenAddress:
    """The first ingest address of the configuration, to connect to."""
    return config.ingest.listen[0].reachable


def admin_client(config: Config, timeout_seconds: float = 5.0) -> DaemonClient:
    """A client for the admin listener of the configuration."""
    address = config.admin.listen[0].reachable
    return DaemonClient(address, config.state_dir, timeout_seconds)
