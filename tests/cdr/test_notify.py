"""Alerts to a target of apprise's: what is said, in what order, and nothing that is nobody's business."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.cdr.serving import serving
from tests.cdr.test_courier import courier, listed, until

from callgate.cdr.events import Receiver, Story, name_of
from callgate.cdr.events import test_event as make_test_event
from callgate.cdr.notify import Notify, message_of
from callgate.cdr.store import Store
from callgate.config import ConfigError, load_config
from callgate.net.outbox import receivers_of
from callgate.proxy.commands import Alert

# What apprise imports is its own concern.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Chat:
    """What apprise's `json://` sends comes here; `codes`: its answers, then 200."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.codes: list[int] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                code = chat.codes.pop(0) if chat.codes else 200
                if code == 200:
                    chat.got.append(body)
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://me:hunter2@127.0.0.1:{self._server.server_address[1]}/hunter3"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def chat() -> Iterator[Chat]:
    with closing(Chat()) as made:
        yield made


def to(url: str, **how: Any) -> Receiver:
    return Receiver(name_of(url, apprise=True), url, "", events=("alert",), timeout=10.0, apprise=True, **how)


def alert(severity: str, key: str = "acme", *, resolved: bool = False) -> Alert:
    details = {"kind": "at_limit", "caller": "+819012345678"}
    text = "lines is at its limit\r\nX: y"
    return Alert("V4", severity, key, text, 5, 5, details=details, resolved=resolved)


def test_what_is_said() -> None:
    story = Story()
    raised = json.loads(story.event_of(alert("critical"), "hang up", 1_767_225_600.0).body(1))
    assert message_of(raised) == (
        "CallGate: critical: V4 (acme)",
        "lines is at its limit  X: y\nvalue 5, limit 5\nsince 2026-01-01 00:00:00 UTC\nWhat to do: hang up",
        "failure",
    )
    over = json.loads(story.event_of(alert("critical", resolved=True), "hang up", 1_767_225_700.0).body(2))
    title, text, kind = message_of(over)
    assert (title, kind) == ("CallGate: resolved: V4 (acme)", "success")
    assert "What to do" not in text
    test = json.loads(make_test_event(0.0, "me").body(1))
    assert message_of(test)[0] == "CallGate: test: test"


def test_who_wants_what() -> None:
    story = Story()
    some = to("json://a/", least="warning", keys=("acme",))
    wanted = [story.event_of(alert(severity), "", 0.0) for severity in ("info", "warning", "critical")]
    assert [some.wants(event) for event in wanted] == [False, True, True]
    assert not some.wants(story.event_of(alert("critical", "other"), "", 0.0))
    assert to("json://a/").wants(make_test_event(0.0, "me"))


async def test_out_of_the_outbox(tmp_path: Path, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    """In order for each key, again where it was not taken; what failed is said without the URL."""
    receiver = to(chat.url, retry_max=0.1)
    chat.codes = [500, 503]
    url = f"sqlite:///{tmp_path}/a.db"
    story = Story()
    with caplog.at_level(logging.DEBUG), closing(Store(url, [receiver])) as store:
        store.connect()
        async with courier(url, receiver) as made:
            store.tell([story.event_of(alert("critical", resolved=over), "", 0.0) for over in (False, True)])
            await until(lambda: made.reports[0].fault)
            assert made.reports[0].fault in (
                "it was not taken: answered 500",
                "it was not taken: answered 503",
            )
            await until(lambda: len(chat.got) == 2 and listed(url) == [])
    assert [one["type"] for one in chat.got] == ["failure", "success"]
    assert "+8190" not in json.dumps(chat.got)
    assert "hunter" not in caplog.text
    assert "hunter" not in receiver.name


async def test_silence_and_nonsense() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    body = make_test_event(0.0, "me").body(1)
    async with serving(never) as port:
        silent = Notify(to(f"json://127.0.0.1:{port}/?rto=1&cto=1")._replace(timeout=0.2))
        assert (await silent.deliver("a", body)).fault == "no answer within 0.2 s"
        await silent.close()
    nonsense = Notify(to("hunter2://hunter2"))
    assert (await nonsense.deliver("a", body)).fault == "apprise can't use its URL"
    await nonsense.close()


REST = """
trunks: {carrier: {gateways: ["sip:127.0.0.1:5080"]}}
keys: {acme: {sources: ["127.0.0.1"]}}
"""


def written(folder: Path, *lines: str) -> Path:
    path = folder / "gate.yaml"
    path.write_text("notify:\n" + "".join(f"  - {line}\n" for line in lines) + REST)
    return path


@pytest.mark.parametrize(
    ("lines", "place", "text"),
    [
        (["{url: 'hunter2://hunter2'}"], "notify[0].url", "apprise can't use this URL"),
        (["{url: 'slack://hunter2'}"], "notify[0].url", "apprise can't use this URL"),
        (
            ["{url: 'json://hunter2/'}", "{url: 'json://hunter2/'}"],
            "notify[1].url",
            "the same URL as notify[0]",
        ),
        (["{url: 'json://hunter2/', keys: [nobody]}"], "notify[0].keys", "there is no key `nobody`"),
    ],
)
def test_fault(tmp_path: Path, lines: list[str], place: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, *lines))
    (fault,) = caught.value.faults
    assert (fault.path, text in fault.text) == (place, True)
    assert "hunter2" not in str(fault)


def test_without_apprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"notify\[0\].*pip install 'callgate\[apprise\]'"):
        load_config(written(tmp_path, "{url: 'json://127.0.0.1/'}"))


def test_good(tmp_path: Path) -> None:
    (one,) = receivers_of(load_config(written(tmp_path, "{url: 'json://hunter2/', severity: critical}")))
    assert (one.apprise, one.least, one.events) == (True, "critical", ("alert",))
    assert one.name.startswith("json-")
    assert "hunter2" not in one.name
