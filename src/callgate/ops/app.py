"""What ops answers over HTTP."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import ASGIApp

from callgate import __version__
from callgate.ops import problems
from callgate.ops.guard import Guard
from callgate.ops.render import Page
from callgate.ops.settings import Settings
from callgate.ops.view import View

HEARTBEAT_SECONDS: Final = 3.0
"""The gate beats several times a second; older than this, its loop does not turn."""

NOTHING: Final = Settings()


class Health(BaseModel):
    """Body of /healthz."""

    status: str
    heartbeat_age_seconds: float


class Part(BaseModel):
    """Something the gate works with: what kind it is, and whether it answers."""

    kind: str
    state: str


class Way(BaseModel):
    """A trunk: `up` while one of its gateways is, and each of them; `registered` where the gate has to be."""

    state: str
    registered: bool | None
    gateways: dict[str, str]


class Readiness(BaseModel):
    """Body of /readyz. `store`, `database` and `trunks` are told and never decide the status: what a gate can't do
    without them another gate could not do either."""

    status: str
    state: str
    listeners: int
    store: Part
    database: Part
    trunks: dict[str, Way]


def readiness(view: View, store: str, database: str) -> tuple[bool, Readiness]:
    """Whether the gate takes new calls. `store` and `database` are kinds (`memory`, `none`, …)."""
    ready = view.listeners > 0 and view.state != "draining"
    return ready, Readiness(
        status="ready" if ready else "not ready",
        state=view.state,
        listeners=view.listeners,
        store=Part(kind=store, state=_word(view.store_up)),
        database=Part(kind=database, state=_database_state(view, database)),
        trunks=trunks(view),
    )


def trunks(view: View) -> dict[str, Way]:
    """Every trunk, as the gate sees it now."""
    registered = view.registered()
    return {
        trunk: Way(
            state=_word(any(gateways.values())),
            registered=registered.get(trunk),
            gateways={gateway: _word(up) for gateway, up in gateways.items()},
        )
        for trunk, gateways in view.gateways().items()
    }


def _word(up: bool) -> str:
    return "up" if up else "down"


def _database_state(view: View, kind: str) -> str:
    if kind == "none":
        return "none"
    return _word(view.database_up)


def make_app(view: View, page: Page, store: str, database: str, settings: Settings = NOTHING) -> ASGIApp:
    """The application: four paths that need no token, the admin API behind one, and 404 for all else."""
    app = FastAPI(
        title="CallGate",
        version=__version__,
        description="The control plane of a CallGate gate.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> JSONResponse:
        """200 while the gate's loop turns."""
        age = view.age
        alive = age < HEARTBEAT_SECONDS
        body = Health(status="ok" if alive else "stalled", heartbeat_age_seconds=round(age, 3))
        return JSONResponse(body.model_dump(), 200 if alive else 503)

    # Not async, these two: many keys take a while, and /healthz must not wait for it.
    @app.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    def readyz() -> JSONResponse:
        """503 only while the gate drains or has no listener."""
        ready, body = readiness(view, store, database)
        return JSONResponse(body.model_dump(), 200 if ready else 503)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
    )
    def metrics(request: Request) -> Response:
        """The metrics, in the text format of Prometheus or in OpenMetrics."""
        body, headers = page.render(
            request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
        )
        return Response(body, headers=headers)

    problems.handle(app)

    def complete() -> None:
        from callgate.ops.api import router

        app.include_router(router(view, settings))

    return Guard(app, settings, complete)
