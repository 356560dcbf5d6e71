"""What is wrong with `notify`: a URL that apprise can't use, or no apprise. No fault shows a URL: it holds a secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from callgate.config.schema import Config

Loc = tuple[str | int, ...]


def faults(config: Config) -> Iterator[tuple[Loc, str]]:
    seen: dict[str, int] = {}
    for n, one in enumerate(config.notify):
        url = one.url.get_secret_value()
        first = seen.setdefault(url, n)
        if first != n:
            yield ("notify", n, "url"), f"the same URL as notify[{first}]"
        for key in one.keys:
            if key not in config.keys:
                yield ("notify", n, "keys"), f"there is no key `{key}`"
        known = _known(url)
        if known is None:
            words = (
                "this needs apprise, which is not installed: pip install 'callgate[apprise]'; or leave it out"
            )
            yield ("notify", n), words
        elif not known:
            words = (
                "apprise can't use this URL; https://github.com/caronc/apprise/wiki says how each is written"
            )
            yield ("notify", n, "url"), words


def _known(url: str) -> bool | None:
    """Whether apprise can use it; None: there is no apprise."""
    try:
        import apprise
    except ImportError:
        return None
    logging.getLogger("apprise").propagate = False  # it would show the URL
    return apprise.Apprise.instantiate(url, suppress_exceptions=True) is not None
