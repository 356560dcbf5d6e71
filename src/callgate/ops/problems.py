"""What went wrong, for a program and for a person: problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`detail` names what is wrong and the remedy."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Refused(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(asdict(body), status, headers, MEDIA_TYPE)


def handle(app: Starlette) -> None:
    """Every error of this application becomes one."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return answer(error.status, error.detail, error.headers)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return answer(error.status_code, str(error.detail), error.headers)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, http)
