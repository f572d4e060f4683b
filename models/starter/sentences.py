"""Longer sentences with several slots, as documents of a utility, an office, a shop or an encyclopaedia would put them.

The sentences stand in `wordings/sentences`, one a line: `text # slot: question | question # slot: question ...`. In the
text {name:kind} draws a value of models.starter.values (np: a noun phrase, word: a noun), {e} is an entity, [a|b]
picks a wording. Questions may name other slots. All texts were written for this project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from models.starter import facts, lexicon, values

LINES: list[str] = lexicon.wordings("sentences")

_SLOT = re.compile(r"\{(\w+):(\w+)\}")
_CHOICE = re.compile(r"\[([^\]]*\|[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Line:
    """A parsed line: `kinds` of its slots by name, `questions` by slot, `named` if it is about an entity {e}."""

    text: str
    kinds: dict[str, str]
    questions: dict[str, tuple[str, ...]]
    named: bool


def parse(line: str) -> Line:
    """Read one line of the notation above."""
    text, *parts = line.split(" # ")
    questions = {}
    for part in parts:
        slot, asked = part.split(": ", 1)
        questions[slot] = tuple(q.strip() for q in asked.split(" | "))
    return Line(_SLOT.sub(r"{\1}", text), dict(_SLOT.findall(text)), questions, "{e}" in text)


PARSED: list[Line] = [parse(line) for line in LINES]


def _slots(line: Line, rng: Random) -> dict[str, str]:
    """A value for each slot, none contained in another."""
    for _ in range(100):
        drawn = {slot: values.draw(kind, rng) for slot, kind in line.kinds.items()}
        texts = [text.lower() for text in drawn.values()]
        if not any(a in b for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j):
            return drawn
    raise ValueError(f"slots of {line.text!r} cannot be told apart")


def _fill(template: str, slots: dict[str, str]) -> str:
    for slot, value in slots.items():
        template = template.replace(f"{{{slot}}}", value)
    return facts.capital(template)


def _choose(rng: Random, text: str) -> str:
    return _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)


def key(number: int, about: facts.Entity) -> tuple[str, str]:
    """The key of a training line\'s fact about an entity."""
    return (about.name if PARSED[number].named else "", f"line-{number}")


def line_fact(rng: Random, about: facts.Entity, number: int | None = None) -> facts.Fact:
    """A fact of one training line, about the entity where the line names one."""
    number = rng.randrange(len(PARSED)) if number is None else number
    return fact_of(rng, about, PARSED[number], key(number, about))


def fact_of(rng: Random, about: facts.Entity, line: Line, name: tuple[str, str]) -> facts.Fact:
    """A fact of any parsed line under the given key."""
    slots = {**_slots(line, rng), "e": about.name}
    sentence = _fill(_choose(rng, line.text), slots)
    text = _choose(rng, line.text)
    asks = []
    for slot, questions in line.questions.items():
        answer = slots[slot] if slots[slot] in sentence else facts.capital(slots[slot])
        asks.append(facts.Ask(_fill(rng.choice(questions), slots), answer))
    wrong = rng.choice(list(line.questions))
    new = values.other(line.kinds[wrong], rng, slots[wrong])
    return facts.Fact(name, sentence, tuple(asks), _fill(text, {**slots, wrong: new}), _fill(text, slots))


def line_question(rng: Random, about: facts.Entity, number: int) -> str:
    """A question of a line with fresh slots: what a passage without that line does not answer."""
    line = PARSED[number]
    return _fill(rng.choice(line.questions[rng.choice(list(line.questions))]), {**_slots(line, rng), "e": about.name})
