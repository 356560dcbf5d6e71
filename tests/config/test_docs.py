"""`docs/reference/config.md` names every key there is, with its default and the step that builds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from callgate.config.schema import Config
from callgate.config.supported import NOT_YET, differs
from callgate.config.validate import schema_fields, schema_keys

DOC = Path(__file__).parents[2] / "docs" / "reference" / "config.md"
ROW = re.compile(r"\| `(?P<key>[a-z0-9_]+)` \| [^|]+ \| (?P<default>[^|]+) \| (?P<built>[^|]+) \|")


def documented() -> dict[tuple[str, str], tuple[str, str]]:
    """(section, key) → (default, built) as the page has it."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    section = None
    for line in DOC.read_text().splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
            section = "" if title == "The top level" else title.strip("`") if title.startswith("`") else None
        row = ROW.match(line)
        if row and section is not None:
            assert (section, row["key"]) not in found
            found[section, row["key"]] = (row["default"], row["built"])
    return found


def test_every_key_is_documented_and_no_other() -> None:
    assert set(documented()) == set(schema_keys(Config))


def test_what_is_built() -> None:
    for (section, key), (_, built) in documented().items():
        path = f"{section}.{key}".lstrip(".")
        to_come = any(
            row.used is differs and (path == row.pattern or path.startswith(row.pattern + "."))
            for row in NOT_YET
        )
        assert built == ("to come" if to_come else "yes"), path


def plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, BaseModel):
        return plain(value.uri) if hasattr(value, "uri") else "section"
    return value if value is None or isinstance(value, bool | int | float) else str(value)


# Where the default isn't the field's own: it is needed, comes from elsewhere, or is written in another way.
ELSEWHERE = {"needed", "profile", "see below", "the only trunk"}


def test_the_defaults() -> None:
    for section, key, info in schema_fields(Config):
        written = documented()[section, key][0]
        if info.is_required():
            assert written == "needed", (section, key)
        if written in ELSEWHERE:
            continue
        default = plain(info.get_default(call_default_factory=True))
        meant = yaml.safe_load(written.strip("`"))
        if key == "ops":
            meant = meant.removeprefix("http://")
        if key == "state_dir":
            meant = meant.removeprefix("./")
        assert meant == default, (section, key)
