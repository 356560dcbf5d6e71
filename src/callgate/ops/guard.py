"""The door of the admin API: who may ask for what, judged before anything of a request is read.

`/api/…` needs a bearer token of `admin.tokens`; all but GET and HEAD one with the role `operate`. The API itself is
made when it is first asked for: gates start often, and few are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callgate.ops import problems
from callgate.ops.settings import Settings, Token

BODY: Final = 16_384
"""Bytes of a request's body at most."""
NO_TOKENS: Final = (
    "no tokens are configured, so only the local socket is served: use the `callgate` command on the gate's machine, or"
    " list a token under `admin.tokens` in the config and restart the gate"
)
NO_PAGE: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="callgate"'}


class Guard:
    """`make_api` makes what serves `/api/…` and `/openapi.json`, `app` serves all else."""

    def __init__(self, app: ASGIApp, settings: Settings, make_api: Callable[[], ASGIApp]) -> None:
        self._app = app
        self._settings = settings
        self._make_api = make_api
        self._api: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_api = path.startswith("/api/")
        if scope["type"] == "http" and (is_api or path == "/openapi.json"):
            send = _for_programs(send)
            if is_api:
                refusal = self._judge(scope)
                if refusal is not None:
                    await refusal(scope, receive, send)
                    return
                receive = _bounded(receive)
            if self._api is None:
                self._api = self._make_api()
            await self._api(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _judge(self, scope: Scope) -> ASGIApp | None:
        if not self._settings.tokens:
            return problems.answer(403, NO_TOKENS)
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        holder: Token | None = None
        if kind.lower() == b"bearer":
            holder = self._settings.holder(token.strip())
        if holder is None:
            return problems.answer(
                401, "a token of `admin.tokens` is needed: Authorization: Bearer …", CHALLENGE
            )
        if scope["method"] not in ("GET", "HEAD") and holder.role != "operate":
            return problems.answer(
                403, f"the token `{holder.name}` has the role `view`; this needs `operate`"
            )
        scope.setdefault("state", {})["token"] = holder.name
        return None


def _for_programs(send: Send) -> Send:
    """No browser guesses that an answer is a page, whatever text of callers is in it, and nobody keeps it."""

    async def send_so(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *NO_PAGE]
        await send(message)

    return send_so


def _bounded(receive: Receive) -> Receive:
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > BODY:
            raise problems.Refused(413, f"a body has at most {BODY} bytes")
        return message

    return receive_bounded
