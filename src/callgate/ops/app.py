"""What ops answers over HTTP.

A gate starts often and few are asked for their admin API, whose libraries take half a second of a processor to load:
what needs no token does without them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from callgate.ops import problems
from callgate.ops.guard import Guard
from callgate.ops.render import Page
from callgate.ops.settings import Settings
from callgate.ops.view import View

HEARTBEAT_SECONDS: Final = 3.0
"""The gate beats several times a second; older than this, its loop does not turn."""

NOTHING: Final = Settings()


@dataclass(frozen=True)
class Health:
    """Body of /healthz."""

    status: str
    heartbeat_age_seconds: float


@dataclass(frozen=True)
class Part:
    """Something the gate works with: what kind it is, and whether it answers."""

    kind: str
    state: str


@dataclass(frozen=True)
class Way:
    """A trunk: `up` while one of its gateways is, and each of them; `registered` where the gate has to be."""

    state: str
    registered: bool | None
    gateways: dict[str, str]


@dataclass(frozen=True)
class Readiness:
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
    """The application: three paths that need no token, the admin API and its OpenAPI, and 404 for all else."""

    async def healthz(request: Request) -> JSONResponse:
        """200 while the gate's loop turns."""
        age = view.age
        alive = age < HEARTBEAT_SECONDS
        body = Health(status="ok" if alive else "stalled", heartbeat_age_seconds=round(age, 3))
        return JSONResponse(asdict(body), 200 if alive else 503)

    # Not async, these two: many keys take a while, and /healthz must not wait for it.
    def readyz(request: Request) -> JSONResponse:
        """503 only while the gate drains or has no listener."""
        ready, body = readiness(view, store, database)
        return JSONResponse(asdict(body), 200 if ready else 503)

    def metrics(request: Request) -> Response:
        """The metrics, in the text format of Prometheus or in OpenMetrics."""
        body, headers = page.render(
            request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
        )
        return Response(body, headers=headers)

    plain = (healthz, readyz, metrics)
    app = Starlette(routes=[Route(f"/{one.__name__}", one) for one in plain])
    app.router.redirect_slashes = False
    problems.handle(app)

    def admin() -> ASGIApp:
        from callgate.ops.api import make_api

        return make_api(view, settings, plain)

    return Guard(app, settings, admin)
