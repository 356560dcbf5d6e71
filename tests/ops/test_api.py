"""The admin API where what it asks is away, broken or long: an answer that says so, and a page at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import structlog
from fastapi import FastAPI
from tests.ops.test_guard import OPERATE, SETTINGS, bearer

from callgate.cdr import query
from callgate.net.control import Control
from callgate.net.desk import PAGE, Answer, Argument, Desk, Operation, Unfit
from callgate.net.rows import Row
from callgate.ops import problems
from callgate.ops.api import router
from callgate.ops.guard import Guard
from callgate.ops.view import View
from callgate.store.recall import FOLDER

CALLS = [{"id": f"{n:016x}"} for n in range(1, 251)]


async def calls(desk: Desk, arguments: Row, who: str) -> Answer:
    after = int(arguments.get("after", "0"), 16)
    return iter(CALLS[after : after + arguments["limit"]])


async def keys(desk: Desk, arguments: Row, who: str) -> Answer:
    if "key" in arguments:
        raise Unfit("unknown", f"there is no key `{arguments['key']}`")
    return iter([{"key": "acme"}])


OPERATIONS = {
    "calls.list": Operation(calls, {"key": Argument(), **PAGE}),
    "keys.list": Operation(keys, {"key": Argument(), **PAGE}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
async def http(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    control = Control(folder, cast(Desk, None), structlog.get_logger(), OPERATIONS)
    await control.start()
    settings = SETTINGS._replace(state_dir=folder, database=f"sqlite:///{folder}/a.db")
    app = FastAPI()
    problems.handle(app)

    def made() -> FastAPI:
        app.include_router(router(cast(View, None), settings))
        return app

    transport = httpx.ASGITransport(Guard(app, settings, made))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://ops", headers=bearer(OPERATE)
    ) as client:
        yield client
    await control.close()


async def is_away(http: httpx.AsyncClient, path: str, text: str) -> None:
    answer = await http.get(f"/api/v1{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert text in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/cdrs", "/cdrs?key=acme"])
async def test_a_database_that_is_none(http: httpx.AsyncClient, folder: Path, path: str) -> None:
    await is_away(http, path, "unable to open database file")
    (folder / "a.db").write_bytes(b"rubbish" * 1000)
    await is_away(http, path, "file is not a database")
    (folder / "a.db").unlink()
    sqlite3.connect(folder / "a.db").close()
    await is_away(http, path, "start the gate once with it")


async def test_a_database_that_goes_between_two_questions(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No record of the key: is there such a key at all?"""
    monkeypatch.setattr(query, "page", lambda *_, **__: query.Page([], None))
    await is_away(http, "/cdrs?key=acme", "the records can't be read")


async def test_a_journal_that_cannot_be_read(http: httpx.AsyncClient, folder: Path) -> None:
    assert (await http.get("/api/v1/explain?call_id=a")).status_code == 404
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "stories-00000001").mkdir()  # none that anybody reads
    await is_away(http, "/explain?call_id=a", "the journal can't be read")
    (folder / FOLDER / "stories-00000001").rmdir()
    (folder / FOLDER).rmdir()
    (folder / FOLDER).write_text("")
    await is_away(http, "/explain?call_id=a", "the journal can't be read")


async def test_a_long_list_is_read_page_by_page(http: httpx.AsyncClient) -> None:
    found: list[Any] = []
    after: dict[str, str] = {}
    sizes = []
    while True:
        page = (await http.get("/api/v1/calls", params=after)).json()
        found += page["items"]
        sizes.append(len(page["items"]))
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert (found, sizes) == (CALLS, [100, 100, 50])
    assert (await http.get("/api/v1/calls?limit=250")).json()["next"] is None
    assert (await http.get("/api/v1/calls?limit=1001")).status_code == 422
    assert (await http.get("/api/v1/keys")).json() == {"items": [{"key": "acme"}], "next": None}


async def test_an_audit_log_that_cannot_be_read(http: httpx.AsyncClient, folder: Path) -> None:
    assert (await http.get("/api/v1/audit")).json() == {"items": []}
    (folder / "audit.db").write_bytes(b"rubbish" * 1000)
    await is_away(http, "/audit", "file is not a database")
