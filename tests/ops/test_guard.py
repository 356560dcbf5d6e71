"""Who may ask the admin API for what: tokens, whole, wrong, half and missing, and their roles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import cast

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette

from callgate.ops import problems
from callgate.ops.guard import BODY, Guard
from callgate.ops.settings import Settings, Token

VIEW, OPERATE = "a-token-that-may-look", "a-token-that-may-do"
SETTINGS = Settings(
    (
        Token("grafana", "view", sha256(VIEW.encode()).digest()),
        Token("ops", "operate", sha256(OPERATE.encode()).digest()),
    )
)


def guarded(settings: Settings) -> httpx.AsyncClient:
    made: list[int] = []

    def make_api() -> FastAPI:
        made.append(1)
        assert len(made) == 1, "the API is made once"
        app = FastAPI()
        problems.handle(app)

        @app.api_route("/api/v1/thing", methods=["GET", "POST", "DELETE"])
        async def thing(request: Request) -> str:
            await request.body()
            return cast(str, request.state.token)

        return app

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(Guard(Starlette(), settings, make_api)), base_url="http://ops"
    )


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with guarded(SETTINGS) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer(""),
        bearer(OPERATE[: len(OPERATE) // 2]),
        bearer(OPERATE + "x"),
        bearer(OPERATE.upper()),
        bearer(f"{VIEW} {OPERATE}"),
        bearer("x" * 10_000),
        {"Authorization": OPERATE},
        {"Authorization": f"Basic {OPERATE}"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/thing", "/api/v1/nothing", "/api/"])
async def test_no_token_no_answer(http: httpx.AsyncClient, headers: dict[str, str], path: str) -> None:
    for method in ("GET", "POST"):
        answer = await http.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert OPERATE not in answer.text


async def test_two_tokens_are_none(http: httpx.AsyncClient) -> None:
    both = [("Authorization", f"Bearer {VIEW}"), ("Authorization", f"Bearer {OPERATE}")]
    assert (await http.get("/api/v1/thing", headers=both)).status_code == 401


async def test_a_token_has_a_name_and_a_role(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/v1/thing", headers=bearer(VIEW))
    assert answer.json() == "grafana"
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == (
        "nosniff",
        "no-store",
    )
    for method in ("POST", "DELETE"):
        refused = await http.request(method, "/api/v1/thing", headers=bearer(VIEW))
        assert refused.status_code == 403
        assert "`grafana` has the role `view`; this needs `operate`" in refused.json()["detail"]
        assert (await http.request(method, "/api/v1/thing", headers=bearer(OPERATE))).json() == "ops"


async def test_without_tokens_there_is_only_the_local_socket() -> None:
    async with guarded(Settings()) as http:
        answer = await http.get("/api/v1/thing", headers=bearer(OPERATE))
    assert answer.status_code == 403
    assert "admin.tokens" in answer.json()["detail"]


async def test_a_body_is_bounded(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (BODY // 2)

    answer = await http.post("/api/v1/thing", headers=bearer(OPERATE), content=chunks())
    assert answer.status_code == 413
