"""Alerts to chats, mail and whatever else apprise knows: an extra, `pip install 'callgate[apprise]'`.

Such a target is a receiver as those of webhooks are: it has its events in the outbox, takes them in order, and one that
fails holds up nobody. What apprise says of a failure may hold parts of the URL, so no more than the code goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from callgate.cdr.events import RESOLVED, TEST, Receiver
from callgate.cdr.post import Outcome

if TYPE_CHECKING:
    from apprise import Apprise

REMEDY: Final = "needs apprise, which is not installed: pip install 'callgate[apprise]'"
KINDS: Final = {"critical": "failure", "warning": "warning", "info": "info"}
"""Severity → apprise's word, which chooses colour and sign."""
_CODE = re.compile(r"error=(\d{3})\b")


def _silence() -> None:
    """What these say shows URLs, and nothing of it is for the gate's log."""
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).propagate = False


class Notify:
    """To one target; beside `post.Post`. One at a time: apprise waits in a thread."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._thread = ThreadPoolExecutor(1, "notify")
        self._apprise: Apprise | None = None

    async def deliver(self, ident: str, body: str) -> Outcome:
        """One attempt, for `timeout` seconds in all."""
        title, text, kind = message_of(json.loads(body))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._receiver.timeout):
                fault = await loop.run_in_executor(self._thread, self._send, title, text, kind)
        except TimeoutError:
            return Outcome(f"no answer within {self._receiver.timeout:g} s")
        return Outcome(fault)

    def _send(self, title: str, text: str, kind: str) -> str:
        """In the thread. What went wrong; empty where it was taken."""
        heard = _Ear()
        logger = logging.getLogger("apprise")
        logger.addHandler(heard)
        try:
            if self._apprise is None:
                import apprise

                _silence()
                made = apprise.Apprise()
                if not made.add(self._receiver.url):
                    return "apprise can't use its URL"
                self._apprise = made
            if self._apprise.notify(body=text, title=title, notify_type=kind, body_format="text"):
                return ""
        except ImportError:
            return REMEDY
        except Exception as error:  # of some plugin
            return f"apprise failed: {type(error).__name__}"
        finally:
            logger.removeHandler(heard)
        return f"it was not taken: answered {heard.code}" if heard.code else "it was not taken"

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Ear(logging.Handler):
    """Takes the code out of what apprise says of a failure."""

    code = ""

    def emit(self, record: logging.LogRecord) -> None:
        found = _CODE.search(record.getMessage())
        if found:
            self.code = found[1]


def message_of(event: dict[str, Any]) -> tuple[str, str, str]:
    """Title, text and kind of what is told. No telephone number is: what `details` hold stays here."""
    data = event["data"]
    about = " ".join(_line(part) for part in (data["key"], data.get("trunk")) if part)
    over = event["type"] == RESOLVED
    state = "test" if event["type"] == TEST else "resolved" if over else data["severity"]
    title = f"CallGate: {state}: {_line(data['rule'])}" + (f" ({about})" if about else "")
    value, limit = data.get("value"), data.get("limit")
    lines = [_line(data["text"])]
    if value is not None:
        lines.append(f"value {value}" + (f", limit {limit}" if limit is not None else ""))
    if data.get("since"):
        lines.append(f"since {data['since'][:19].replace('T', ' ')} UTC")
    if data.get("advice") and not over:
        lines.append(f"What to do: {_line(data['advice'])}")
    return title, "\n".join(lines), "success" if over else KINDS.get(data["severity"], "info")


def _line(text: object) -> str:
    """What others have written ends no line."""
    return "".join(char if char.isprintable() else " " for char in str(text))
