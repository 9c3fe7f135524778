"""What all routes of the control API have in common: JSON in, JSON out, how a mistake is told."""

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from mockcollector.control_values import MistakeError

MAX_BODY_BYTES = 1024 * 1024


class AsciiJson(JSONResponse):
    """An answer that moves nothing in the terminal of somebody who asks by `curl`."""

    def render(self, content: Any) -> bytes:
        """The content with everything but printable ASCII as escapes."""
        return json.dumps(content).encode()


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Another Content-Type is refused: pages of others could send."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "the body is JSON: send Content-Type: application/json")
    text = b""
    async for chunk in request.stream():
        text += chunk
        if len(text) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise MistakeError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise MistakeError("the body is not a JSON object")
    return body


async def refuse_mistake(_request: Request, error: Exception) -> AsciiJson:
    """A question that cannot be understood is 400."""
    return AsciiJson({"error": str(error)}, 400)


async def refuse_http(_request: Request, error: Exception) -> AsciiJson:
    """What has a status of its own keeps it."""
    if not isinstance(error, HTTPException):
        raise error
    return AsciiJson({"error": error.detail}, error.status_code, headers=error.headers)
