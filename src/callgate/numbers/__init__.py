"""Dialled numbers: normalised, classified by the Japanese numbering plan, with every reading kept. Pure."""

from callgate.numbers.classes import CLASSES, EMERGENCY, STRICT
from callgate.numbers.number import Number, Reading
from callgate.numbers.plan import JAPAN, Plan, PlanError, country_of
from callgate.numbers.uri import read_dialled, read_uri

__all__ = [
    "CLASSES",
    "EMERGENCY",
    "JAPAN",
    "STRICT",
    "Number",
    "Plan",
    "PlanError",
    "Reading",
    "country_of",
    "read_dialled",
    "read_uri",
]
