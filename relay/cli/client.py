"""Asks the running daemon over its admin listener, with the token from its state directory."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from relay.admin import token as admin_token
from relay.config import Config, ListenAddress
from relay.model.errors import RelayError
from relay.model.run_as_hint import hint_for

# Of an event stream: the daemon writes a comment every 15 seconds.
SILENT_SECONDS: Final = 40.0


class DaemonUnreachable(RelayError):
    """No otlp-relay responds."""

    code = "daemon_unreachable"


class NoDaemon(DaemonUnreachable):
    """None runs: there is no token yet, or nobody listens."""

    code = "no_daemon"


class DaemonRefused(RelayError):
    """The daemon refused what was asked."""

    code = "daemon_refused"

    @classmethod
    def of(cls, status: int, found: Any) -> "DaemonRefused":
        """With the daemon's own reason, if it gave one."""
        words = found.get("error") if isinstance(found, dict) else None
        return cls(str(words or f"the daemon responded with {status}"))


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """The admin API of the daemon that a configuration describes."""

    address: ListenAddress
    state_dir: Path
    timeout_seconds: float = 5.0

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON document of `path`; raises DaemonUnreachable with what to do."""
        return self._exchange("GET", path)

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """The document of a request that was done.

        Raises DaemonRefused with the daemon's own reason, else as `get`.
        """
        status, found = self._exchange(method, path)
        if status != 200 or not isinstance(found, dict):
            raise DaemonRefused.of(status, found)
        return found

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """Each event of a stream, its name and its document, until the daemon ends it.

        Raises DaemonUnreachable where there is none or it falls silent, DaemonRefused with why.
        """
        connection = http.client.HTTPConnection(*self.address, timeout=SILENT_SECONDS)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token()}"})
            response = connection.getresponse()
            if response.status != 200:
                raise DaemonRefused.of(response.status, json.loads(response.read()))
            name = ""
            for line in response:
                key, _, text = line.decode().rstrip("\n").partition(": ")
                if key == "event":
                    name = text
                elif key == "data":
                    yield name, json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DaemonUnreachable(f"the stream of {self.address} ended ({error})") from None
        finally:
            connection.close()

    def _exchange(self, method: str, path: str) -> tuple[int, Any]:
        token = self.token()
        connection = http.client.HTTPConnection(*self.address, timeout=self.timeout_seconds)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            kind = NoDaemon if isinstance(error, ConnectionRefusedError) else DaemonUnreachable
            raise kind(
                f"no response from the admin listener on {self.address} ({error})",
                hint="is `otlp-relay serve` running with this configuration?",
            ) from None
        finally:
            connection.close()
        if response.status == 401:
            raise DaemonUnreachable(
                f"{self.address} does not accept the token in {self.state_dir}",
                hint="another daemon holds that port; give its configuration with --config",
            )
        try:
            return response.status, json.loads(body)
        except ValueError:
            raise DaemonUnreachable(f"what responds on {self.address} is not otlp-relay") from None

    def token(self) -> str:
        """The daemon's token; raises DaemonUnreachable with what to do."""
        try:
            return admin_token.read(self.state_dir)
        except FileNotFoundError:
            raise NoDaemon(
                f"no daemon has run with the state directory {self.state_dir}",
                hint="start one with `otlp-relay serve`, or give its configuration with --config",
            ) from None
        except PermissionError:
            raise DaemonUnreachable(
                f"you cannot read the admin token in {self.state_dir}",
                hint=hint_for(self.state_dir),
            ) from None
        except OSError as error:
            raise DaemonUnreachable(
                f"the admin token in {self.state_dir} cannot be read: {error.strerror}",
                hint="`otlp-relay doctor` says what stands there",
            ) from None


def admin_client(config: Config, timeout_seconds: float = 5.0) -> DaemonClient:
    """A client for the first admin address of the configuration."""
    address = config.admin.listen[0].reachable
    return DaemonClient(address, config.state_dir, timeout_seconds)


def destination_path(name: str) -> str:
    """A destination's path in the admin API."""
    return f"/api/destinations/{quote(name, safe='')}"
