"""Validation against the schema: every fault at once, in the words of a config file, with its line."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from callgate.config.faults import Fault
from callgate.config.source import Items, Loc, locate

Model = TypeVar("Model", bound=BaseModel)

WORDS: Mapping[str, str] = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of a sensible size",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "dict_type": "must be a mapping (`name: value` lines)",
    "model_type": "must be a mapping (`name: value` lines)",
    "model_attributes_type": "must be a mapping (`name: value` lines)",
    "tuple_type": "must be a list, such as [one, two]",
    "list_type": "must be a list, such as [one, two]",
    "too_long": "must hold at most {max_length}",
}
"""pydantic's error types in the words of a config file. None shows the value: it could be a secret."""


OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "password": ("secret", "pass", "passwd", "pw", "auth_password"),
    "secret": ("password", "signing_key", "hmac"),
    "username": ("user", "login", "account", "auth_user", "authuser", "auth_id"),
    "aor": ("user", "username", "uri", "address", "contact", "identity"),
    "expires": ("interval", "ttl", "refresh", "expiry", "lifetime"),
    "gateways": (
        "host",
        "hosts",
        "address",
        "addresses",
        "server",
        "servers",
        "proxy",
        "peers",
        "uri",
        "registrar",
    ),
    "sources": ("ip", "ips", "address", "addresses", "acl", "allow", "networks", "hosts"),
    "numbers": ("did", "dids", "phone", "phones"),
    "caller_ids": ("cli", "clip", "caller_id"),
    "pbx": ("target", "destination", "uri", "host", "contact"),
    "certificate": ("cert", "crt", "pem", "chain", "certfile"),
    "private_key": ("key", "keyfile", "pkey"),
    "ca": ("ca_file", "cafile", "authorities", "authority", "trust", "roots", "cacert"),
    "name": ("sni", "server_name", "hostname", "verify_name"),
    "listen": ("bind", "listeners", "sockets"),
    "ops": ("http", "metrics"),
    "domains": ("realm", "hosts"),
    "uri": ("bind", "address", "listen"),
    "advertise": ("external", "public", "public_ip", "external_ip"),
    "outbound_cps": ("cps", "rate", "calls_per_second"),
    "register": ("registration", "registrar"),
    "credentials": ("auth", "login", "authentication"),
    "digest": ("auth", "users", "credentials"),
}
"""Key → what others call it."""


def _sections(annotation: Any, repeated: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """(section, is it one of many?) of each section in an annotation: `tuple[X, ...] | None` holds many X."""
    origin = typing.get_origin(annotation)
    if origin is not None:
        many = repeated or origin in (tuple, dict)
        for inner in typing.get_args(annotation):
            yield from _sections(inner, many)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, repeated


def schema_fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """(section, key, field) of every key there is: ("", "listen", …), ("keys.*", "pbx", …), …"""
    for field_name, info in model.model_fields.items():
        name = info.alias or field_name
        yield path, name, info
        under = f"{path}.{name}" if path else name
        for section, repeated in _sections(info.annotation):
            yield from schema_fields(section, f"{under}.*" if repeated else under)


def schema_keys(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(section, key) of every key there is."""
    return ((section, name) for section, name, _ in schema_fields(model))


def _section_of(model: type[BaseModel], loc: Loc) -> str:
    """The schema's name for a place: ("keys", "acme", "limits") is `keys.*.limits`."""
    known = {f"{section}.{key}".lstrip(".") for section, key in schema_keys(model)}
    path = ""
    for part in loc:
        exact = f"{path}.{part}".lstrip(".")
        path = exact if exact in known else f"{path}.*".lstrip(".")
    return path


def _keys_here(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys that the section which holds `loc` knows."""
    section = _section_of(model, loc[:-1])
    return [name for where, name in schema_keys(model) if where == section]


def _likely(model: type[BaseModel], loc: Loc) -> str:
    """The key that an unknown one is likely meant to be: spelt alike, or another word for the same; empty where there
    is none."""
    known = _keys_here(model, loc)
    key = str(loc[-1]).strip().lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(key, known, n=1)
    return next(iter(near or (name for name in known if key in OTHER_WORDS.get(name, ()))), "")


def _unknown_key(model: type[BaseModel], loc: Loc) -> str:
    key = str(loc[-1])
    if likely := _likely(model, loc):
        return f"unknown key `{key}`, did you mean `{likely}`?"
    homes = [where for where, name in schema_keys(model) if name == key]
    if homes:
        named = " or ".join(f"`{where}`" if where else "the top level" for where in homes[:3])
        return f"unknown key `{key}` here; it belongs in {named}"
    return f"unknown key `{key}`; known here: {', '.join(_keys_here(model, loc))}"


def _words(model: type[BaseModel], error: Any) -> str:
    """One of pydantic's errors, as a sentence with a remedy."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"the key `{error['loc'][-1]}` is missing"
    if kind == "extra_forbidden":
        return _unknown_key(model, error["loc"])
    if kind == "value_error":
        return str(context["error"])
    if kind in WORDS:
        return WORDS[kind].format(**context)
    return str(error["msg"])


def _faults(model: type[BaseModel], errors: list[Any], data: Any, file: str) -> Iterator[Fault]:
    """The errors as faults. A key that is missing because it is misspelt is one fault, not two."""
    misspelt = {
        (*error["loc"][:-1], _likely(model, error["loc"]))
        for error in errors
        if error["type"] == "extra_forbidden"
    }
    for error in errors:
        if error["type"] == "missing" and error["loc"] in misspelt:
            continue
        line, path = locate(data, error["loc"])
        yield Fault(file, line, path, _words(model, error))


def _prune(data: Any, loc: Loc, missing: bool) -> None:
    """Take the faulty part out, so that the rest can be checked further. What lacks a key goes whole."""
    trail: list[tuple[Any, str | int]] = []
    for part in loc[:-1] if missing else loc:
        known = (
            part in data if isinstance(data, dict) else isinstance(data, Items) and part in range(len(data))
        )
        if not known:
            break
        trail.append((data, part))
        data = data[part]
    if not trail:
        return
    holder, last = trail[-1]
    if isinstance(holder, Items):
        holder.drop(int(last))
    else:
        del holder[str(last)]


def validate(
    model: type[Model], data: Any, file: str, base: Path, faults: list[Fault]
) -> tuple[Model | None, list[Loc]]:
    """The data as a `model`, without its faulty parts, and where those were; each one is added to `faults`.

    None where too little is left. `base` is the folder where relative paths start. `data` is pruned in place.
    """
    wrong: list[Loc] = []
    for turn in range(20):  # taking a part out can leave its section incomplete: that goes too, and so on
        try:
            return model.model_validate(data, context={"base": base}), wrong
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False, include_input=False)
        wrong += [error["loc"] for error in errors]
        if turn == 0:
            faults += _faults(model, errors, data, file)
        # Backwards: taking an item out must not move the ones before it.
        for error in reversed(errors):
            _prune(data, error["loc"], error["type"] == "missing")
    return None, wrong
