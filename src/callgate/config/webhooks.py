"""What is wrong with `webhooks`: URLs, secrets and what is asked for. No fault shows a secret, nor a URL."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from callgate.config.schema import Config, Webhook

EVENTS: Final = ("cdr", "call.missed", "alert")
Loc = tuple[str | int, ...]


def faults(config: Config) -> Iterator[tuple[Loc, str]]:
    seen: dict[str, int] = {}
    for n, one in enumerate(config.webhooks):
        for place, text in _alone(one, config):
            yield ("webhooks", n, *place), text
        first = seen.setdefault(one.url.get_secret_value(), n)
        if first != n:
            yield ("webhooks", n, "url"), f"the same URL as webhooks.{first}; give one `events` for both"


def _alone(one: Webhook, config: Config) -> Iterator[tuple[Loc, str]]:
    why = _url_fault(one.url.get_secret_value())
    if why:
        yield ("url",), why
    if not _is_secret(one.secret.get_secret_value()):
        yield (
            ("secret",),
            "no Standard Webhooks secret: `whsec_` and base64; make one with: echo whsec_$(openssl rand -base64 32)",
        )
    if not one.events:
        yield ("events",), f"at least one of {', '.join(EVENTS)}"
    for name in one.events:
        if name not in EVENTS:
            yield ("events",), f"there is no event `{name}`; there is: {', '.join(EVENTS)}"
    for key in one.keys:
        if key not in config.keys:
            yield ("keys",), f"there is no key `{key}`"


def _url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "no URL; write it like https://ops.example.jp/hook"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be http:// or https:// with a host, like https://ops.example.jp/hook"
    if not url.isascii() or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        return "holds a character that no URL has; write it percent-encoded"
    return ""


def _is_secret(secret: str) -> bool:
    try:
        return bool(base64.b64decode(secret.removeprefix("whsec_") + "==", validate=False))
    except (binascii.Error, ValueError):
        return False
