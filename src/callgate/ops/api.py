"""The admin API: what the commands can do, over HTTP.

Calls and keys are the gate's to tell and to change (`ops.gate`); records, journal and audit log are read here, on a
thread, so that no reader costs a call anything. Who may ask is judged before (`ops.guard`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import AwareDatetime, BaseModel, ConfigDict, StrictBool, StringConstraints, TypeAdapter

from callgate import __version__
from callgate.ops import problems
from callgate.ops.app import Health, Readiness, Way, trunks
from callgate.ops.gate import Gate, Row
from callgate.ops.problems import Problem, Refused
from callgate.ops.settings import Settings
from callgate.ops.view import View

PAGE_MAX = 1000
Size = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Name = Annotated[str, Query(min_length=1, max_length=1024)]
Optional = Annotated[str | None, Query(max_length=1024)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Release(Body):
    """`hangup`: BYE to both sides, else only its lines are given back."""

    hangup: StrictBool = False


class Suspend(Body):
    """`until`: with a time zone; null: until it is resumed. `calls: release` ends its calls too."""

    reason: Text | None = None
    until: AwareDatetime | None = None
    calls: Literal["keep", "release"] = "keep"


class Rows(BaseModel):
    """A list."""

    items: list[dict[str, Any]]


class Page(Rows):
    """`next`: what to send as `after` for the next page, null on the last."""

    next: str | None


PLAIN: Final[Mapping[str, Mapping[str, Any]]] = {
    "healthz": {"response_model": Health, "responses": {503: {"model": Health}}},
    "readyz": {"response_model": Readiness, "responses": {503: {"model": Readiness}}},
    "metrics": {
        "response_class": Response,
        "responses": {200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
    },
}
"""What the paths without a token answer."""


def make_api(view: View, settings: Settings, plain: Iterable[Callable[..., Any]]) -> FastAPI:
    """Every path under `/api/v1`, and the OpenAPI of these and of `plain`, the handlers of paths without a token."""
    app = FastAPI(
        title="CallGate",
        version=__version__,
        description="The control plane of a CallGate gate.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for one in plain:
        app.add_api_route(f"/{one.__name__}", one, **PLAIN[one.__name__])
    problems.handle(app)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(router(view, settings))
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:10]]
    return problems.answer(422, "; ".join(faults))


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI of a path: the problems that it can answer with."""
    content = {problems.MEDIA_TYPE: {"schema": TypeAdapter(Problem).json_schema()}}
    return {one: {"description": HTTPStatus(one).phrase, "content": content} for one in statuses}


def router(view: View, settings: Settings) -> APIRouter:
    """Every path under `/api/v1`."""
    gate = Gate(settings.state_dir)
    api = APIRouter(
        prefix="/api/v1",
        dependencies=[Security(HTTPBearer(auto_error=False))],
        responses=declared(400, 401, 403, 422, 503),
    )
    _calls(api, gate)
    _keys(api, gate)
    _told(api, gate, view)
    _kept(api, gate, settings)
    return api


def _calls(api: APIRouter, gate: Gate) -> None:
    @api.get("/calls", responses=declared(404), tags=["calls"])
    async def list_calls(
        request: Request, key: Optional = None, after: Optional = None, limit: Size = 100
    ) -> Page:
        """The calls that are up or set up, in the order in which they came, a page at a time."""
        return await _page(gate, request, "calls.list", "id", limit, after, key=key)

    @api.post("/calls/{call:path}/release", responses=declared(404, 409, 413), tags=["calls"])
    async def release_call(request: Request, call: str, body: Release) -> Row:
        """Give back the lines of a call, or end it. `call`: its Call-ID, or the id of its record."""
        return await gate.do(_who(request), "calls.release", call=call, hangup=body.hangup)


def _keys(api: APIRouter, gate: Gate) -> None:
    @api.get("/keys", tags=["keys"])
    async def list_keys(request: Request, after: Optional = None, limit: Size = 100) -> Page:
        """Every key, its limits as they are, and whether it is suspended, by name, a page at a time."""
        return await _page(gate, request, "keys.list", "key", limit, after)

    @api.get("/keys/{key}", responses=declared(404), tags=["keys"])
    async def show_key(request: Request, key: str) -> Row:
        """One key."""
        return (await gate.rows(_who(request), "keys.list", key=key))[0]

    @api.get("/keys/{key}/arithmetic", responses=declared(404), tags=["keys"])
    async def arithmetic(request: Request, key: str) -> Row:
        """What its contract comes to, in words."""
        return await gate.do(_who(request), "keys.arithmetic", key=key)

    @api.post("/keys/{key}/suspend", responses=declared(404, 409, 413), tags=["keys"])
    async def suspend(request: Request, key: str, body: Suspend) -> Row:
        """Refuse its new calls with 403 (V9)."""
        until = None if body.until is None else body.until.isoformat()
        given = {"reason": body.reason, "until": until, "calls": body.calls}
        return await gate.do(_who(request), "keys.suspend", key=key, **given)

    @api.post("/keys/{key}/resume", responses=declared(404, 409), tags=["keys"])
    async def resume(request: Request, key: str) -> Row:
        """Let it call again. 409: it is not suspended."""
        return await gate.do(_who(request), "keys.resume", key=key)


def _told(api: APIRouter, gate: Gate, view: View) -> None:
    @api.get("/status", tags=["gate"])
    async def status(request: Request) -> Row:
        """The gate itself."""
        return await gate.do(_who(request), "status")

    @api.post("/reload", responses=declared(409), tags=["gate"])
    async def reload(request: Request) -> Row:
        """Read the config anew; what has changed. 409: it is refused, with every fault, and nothing has changed."""
        return await gate.do(_who(request), "reload")

    @api.get("/trunks", tags=["trunks"])
    def list_trunks() -> dict[str, Way]:
        """Every trunk and its gateways: up or down."""
        return trunks(view)

    @api.get("/alerts", tags=["gate"])
    async def alerts(request: Request) -> Rows:
        """The alerts that are up."""
        return Rows(items=await gate.rows(_who(request), "alerts.list"))

    @api.get("/refusals", tags=["calls"])
    async def refusals(request: Request) -> Rows:
        """The last calls that were refused, and why; the newest first."""
        return Rows(items=await gate.rows(_who(request), "refusals.list"))


def _kept(api: APIRouter, gate: Gate, settings: Settings) -> None:
    @api.get("/explain", responses=declared(404), tags=["calls"])
    def explain(call_id: Name) -> Rows:
        """The life of a call, every leg with that Call-ID, and why it went as it did."""
        from callgate.store.story import as_dict, lives_of

        try:
            lives = lives_of(_folder(settings), _plain(call_id))
        except OSError as error:
            raise Refused(503, f"the journal can't be read: {error}") from None
        if not lives:
            raise Refused(404, f"no call `{call_id}` is known: never seen, or forgotten (`journal`)")
        return Rows(items=[as_dict(life) for life in lives])

    @api.get("/cdrs", responses=declared(404), tags=["records"])
    async def records(request: Request, asked: Annotated[Asked, Query()]) -> Page:
        """Call records, the newest first, a page at a time."""
        from starlette.concurrency import run_in_threadpool

        found = await run_in_threadpool(_records, settings.database, asked)
        unknown = asked.key is not None and not found.items and asked.after is None
        if unknown and not await run_in_threadpool(_has_key, settings.database, asked.key or ""):
            await gate.rows(_who(request), "keys.list", key=asked.key)  # 404 where it is nobody's
        return found

    @api.get("/audit", tags=["gate"])
    def audit(last: Size = 100) -> Rows:
        """The last lines of the audit log, oldest first: who, what, when, before, after."""
        from callgate.cdr.audit import read_lines

        try:
            with closing(read_lines(_folder(settings))) as lines:
                return Rows(items=[_audit_row(line) for line in deque(lines, maxlen=last)])
        except FileNotFoundError:
            return Rows(items=[])
        except (OSError, sqlite3.Error) as error:
            raise Refused(503, f"the audit log can't be read: {error}") from None


class Asked(Body):
    """`from` and `to`: with a time zone, of the INVITE. `after`: the `next` of the page before."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, alias_generator=lambda n: n.rstrip("_"))

    key: Text | None = None
    trunk: Text | None = None
    direction: Literal["outbound", "inbound", "forwarded"] | None = None
    verdict: Literal["passed", "refused"] | None = None
    rule: Text | None = None
    outcome: Text | None = None
    call_id: Text | None = None
    canonical: Text | None = None
    caller: Text | None = None
    from_: AwareDatetime | None = None
    to: AwareDatetime | None = None
    after: Text | None = None
    limit: Size = 100


async def _page(
    gate: Gate, request: Request, op: str, name: str, limit: int, after: str | None, **arguments: Any
) -> Page:
    """One more is asked for than is shown: is there a next page?"""
    found = await gate.rows(_who(request), op, limit=limit + 1, after=after, **arguments)
    more = len(found) > limit
    return Page(items=found[:limit], next=found[limit - 1][name] if more else None)


@contextmanager
def _database() -> Iterator[None]:
    """What is wrong with it is told."""
    from sqlalchemy.exc import SQLAlchemyError

    from callgate.cdr.database import words
    from callgate.cdr.schema import SchemaError

    try:
        yield
    except (SQLAlchemyError, SchemaError, OSError, ImportError) as error:
        raise Refused(503, f"the records can't be read: {words(error)}") from None


def _records(database: str, asked: Asked) -> Page:
    from callgate.cdr import query

    if not database:
        raise Refused(503, "this gate keeps no records")
    wanted = {name: _plain(value) for name in query.EQUAL if (value := getattr(asked, name)) is not None}
    after = None if asked.after is None else _place(asked.after)
    begin, end = (None if at is None else _stamp(at) for at in (asked.from_, asked.to))
    with _database():
        rows, last = query.page(database, wanted, begin=begin, end=end, after=after, size=asked.limit)
    return Page(items=rows, next=None if last is None else "~".join(last))


def _has_key(database: str, key: str) -> bool:
    from callgate.cdr.export import has_key

    with _database():
        return has_key(database, _plain(key))


def _place(text: str) -> tuple[str, str]:
    from callgate.cdr.row import is_time

    at, _, record = text.partition("~")
    if not is_time(at) or not record.isalnum():
        raise Refused(400, "`after` must be the `next` of the page before")
    return at, record


def _stamp(at: AwareDatetime) -> str:
    from callgate.cdr.row import written

    try:
        return written(at)
    except OverflowError:
        raise Refused(400, "a time beyond what UTC can say") from None


def _plain(text: str) -> str:
    """What a record or a journal could hold."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)):
        raise Refused(400, "text without NUL and surrogates is needed")
    return text


def _folder(settings: Settings) -> Path:
    if settings.state_dir is None:
        raise Refused(503, "`state_dir` is null in the gate's config: nothing is kept")
    return settings.state_dir


def _who(request: Request) -> str:
    name: str = request.state.token
    return name


def _audit_row(line: tuple[Any, ...]) -> Row:
    _, at, who, what, target, before, after = line
    values: Iterator[Any] = (None if one is None else json.loads(one) for one in (before, after))
    return {
        "at": at,
        "who": who,
        "what": what,
        "target": target,
        "before": next(values),
        "after": next(values),
    }
