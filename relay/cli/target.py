"""Where the daemon of a configuration listens, for commands that talk to it."""

from relay.cli.client import DaemonClient
from relay.config import Config, ListenAddress

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}


def reachable(address: ListenAddress) -> tuple[str, int]:
    """Host and port to connect to for what is listened on."""
    return WILDCARDS.get(address.host, address.host), address.port


def ingest_address(config: Config) -> tuple[str, int]:
    """The first ingest address of the configuration."""
    return reachable(config.ingest.listen[0])


def admin_client(config: Config, timeout_seconds: float = 5.0) -> DaemonClient:
    """A client for the admin listener of the configuration."""
    host, port = reachable(config.admin.listen[0])
    return DaemonClient(host, port, config.state_dir, timeout_seconds)
