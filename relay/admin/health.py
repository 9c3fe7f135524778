"""Health for probes from other hosts: `/healthz` and `/readyz` on addresses of their own.

A container platform asks from outside, by whatever address it knows. So nothing but these two is
here, without a token or a rule about hosts, and they do not say why: whoever may know that asks the
admin listener.
"""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from relay.admin.api import SECURITY_HEADERS


async def healthz(_request: Request) -> Response:
    """That the process runs and answers."""
    return PlainTextResponse("ok\n", headers=SECURITY_HEADERS)


def health_app(not_ready_reason: Callable[[], str]) -> Starlette:
    """The application; `not_ready_reason` is empty while spans can be kept."""

    async def readyz(_request: Request) -> Response:
        if not_ready_reason():
            return PlainTextResponse("not ready\n", 503, headers=SECURITY_HEADERS)
        return PlainTextResponse("ready\n", headers=SECURITY_HEADERS)

    app = Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
    app.router.redirect_slashes = False
    return app
