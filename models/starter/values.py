"""Typed values of the reading tasks by the name of their kind; every draw is fresh."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from models.starter import measures, names

KINDS: dict[str, Callable[[Random], str]] = {
    "money": measures.money,
    "duration": measures.duration,
    "date": measures.date,
    "year": measures.year,
    "clock": measures.clock,
    "hours": measures.hours,
    "quantity": measures.quantity,
    "percent": measures.percent,
    "number": measures.number,
    "count": measures.count,
    "weekday": measures.weekday,
    "code": measures.code,
    "phone": measures.phone,
    "email": names.email,
    "person": names.person,
    "role": names.role,
    "agent": names.agent,
    "place": names.place,
    "where": names.where,
    "organisation": names.organisation,
    "colour": names.colour,
    "material": names.material,
    "reason": names.reason,
    "document": names.document,
    "list": names.listing,
    "thing": names.thing,
    "action": names.action,
    "phrase": names.phrase,
    "np": names.noun_phrase,
    "word": lambda rng: names.noun_phrase(rng).split()[-1],
}


def draw(kind: str, rng: Random) -> str:
    """A value of that kind."""
    return KINDS[kind](rng)


def other(kind: str, rng: Random, avoid: str) -> str:
    """A value of the same kind that neither contains nor is contained in `avoid`."""
    for _ in range(50):
        value = KINDS[kind](rng)
        if value.lower() not in avoid.lower() and avoid.lower() not in value.lower():
            return value
    raise ValueError(f"no other value of kind {kind} than {avoid!r}")
