"""The files that a destination names go in; the TLS context of its connections comes out."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Protocol

import httpcore2

from relay.model.errors import ConfigError


class Trust(Protocol):
    """Paths of PEM files: whom to trust instead of the system's, and what to show."""

    @property
    def ca_file(self) -> str | None: ...  # noqa: D102
    @property
    def client_cert(self) -> str | None: ...  # noqa: D102
    @property
    def client_key(self) -> str | None: ...  # noqa: D102


def tls_context(trust: Trust) -> ssl.SSLContext:
    """The TLS context of a destination: its own CA or the system's, and its client certificate.

    Reads files: call it in a thread. Raises ConfigError that names the key and the file.
    """
    if trust.ca_file:
        with _reading("ca_file", trust.ca_file):
            context = ssl.create_default_context(cafile=trust.ca_file)
        # From Python 3.13 on an own authority without key identifiers would be refused, which it
        # is neither before nor by curl: what is trusted by name is checked the same everywhere.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    else:
        context = httpcore2.default_ssl_context()
    if trust.client_cert:
        named = " or ".join(part for part in (trust.client_cert, trust.client_key) if part)
        with _reading("client_cert", named):
            # An empty password: OpenSSL would ask on the terminal for an encrypted key.
            context.load_cert_chain(trust.client_cert, trust.client_key, password=b"")
    return context


@contextlib.contextmanager
def _reading(key: str, path: str) -> Iterator[None]:
    """Turns what goes wrong with a file of certificates into a ConfigError."""
    try:
        yield
    except ssl.SSLError as error:
        said = error.reason or "it holds no certificate"
        raise ConfigError(f"{path} cannot be used ({said})", key=key) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", key=key) from error
