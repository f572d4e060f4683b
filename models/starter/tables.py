"""Tables of the reading tasks: markdown, 'column: value' rows and key-value lists, with questions on their cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.starter import facts, lexicon, measures, names, relations, values


@dataclass(frozen=True, slots=True)
class Table:
    """`parts` are texts that may stand in one or in several passages; each part comes with the facts it states."""

    title: str
    parts: tuple[tuple[str, tuple[facts.Fact, ...]], ...]


def _columns() -> list[relations.Relation]:
    """Columns of `wordings/columns`, one a line: `heading / heading # kind # question | question`, {h} a row's name."""
    found = []
    for number, line in enumerate(lexicon.wordings("columns")):
        headings, kind, asked = line.split(" # ")
        questions = tuple(question.strip().replace("{h}", "{e}") for question in asked.split(" | "))
        for heading in (name.strip() for name in headings.split(" / ")):
            statements = (f"{{E}}: {heading} {{v}}.", f'"{heading}" of {{e}}: {{v}}.')
            found.append(relations.Relation(f"column-{number}", kind, heading, statements, questions))
    return found


COLUMNS: list[relations.Relation] = _columns()
CELLS = [relation for relation in relations.ATTRIBUTES if relation.kind not in {"reason", "action", "document", "list"}]
HEADS = ["zone", "site", "model", "tariff", "station", "item", "valve", "office", "product", "device", "route", "role"]
MAKERS: tuple[Callable[[Random], str], ...] = (
    names.place,
    measures.code,
    names.organisation,
    names.noun_phrase,
    names.proper,
    names.person,
    names.role,
)


def table(rng: Random) -> Table:
    """A table of two to five rows over two to four attributes, as markdown or as 'column: value' rows."""
    wanted = rng.choice([1, 2, 2, 3, 3, 4])
    drawn = [rng.choice(COLUMNS if rng.random() < 0.7 else CELLS) for _ in range(wanted)]
    columns = list({relation.key: relation for relation in drawn}.values())
    head_kind = rng.choice([*HEADS, rng.choice(lexicon.NOUNS)])
    maker = rng.choice(MAKERS)
    heads = list(
        dict.fromkeys(facts.capital(maker(rng).removeprefix("the ")) for _ in range(rng.choice([2, 3, 3, 4, 5])))
    )
    if rng.random() < 0.5 and len(heads) > 1:
        heads[1] = facts.sibling(rng, facts.Entity(heads[0], head_kind)).name
        heads = list(dict.fromkeys(heads))
    cells = {name: [values.draw(c.kind, rng) for c in columns] for name in heads}
    markdown, upper = rng.random() < 0.25, rng.random() < 0.7
    title = rng.choice(
        [
            f"{facts.capital(head_kind)} table",
            f"List of {head_kind}s",
            f"{facts.capital(head_kind)}s",
            f"{facts.capital(rng.choice(lexicon.NOUNS))} register",
        ]
    )
    parts: list[tuple[str, tuple[facts.Fact, ...]]] = []
    if markdown:
        header = f"| {head_kind} | {' | '.join(c.name for c in columns)} |\n|{' --- |' * (len(columns) + 1)}"
        parts.append((header, ()))
    for name in heads:
        row = cells[name]
        if markdown:
            text = f"| {name} | {' | '.join(row)} |"
        else:
            pairs = [(head_kind, name), *((c.name, v) for c, v in zip(columns, row, strict=True))]
            text = "; ".join(f"{facts.capital(label) if upper else label}: {v}" for label, v in pairs)
        parts.append(
            (
                text,
                tuple(
                    _cell(rng, head_kind, name, c, row[i], sum(other[i] == row[i] for other in cells.values()) == 1)
                    for i, c in enumerate(columns)
                ),
            )
        )
    return Table(title, tuple(parts))


def _cell(rng: Random, head: str, name: str, column: relations.Relation, value: str, only: bool) -> facts.Fact:
    about = facts.Entity(rng.choice([name, name, f"{head} {name}", f"the {head} {name}"]), head)
    asks = [facts.Ask(facts.fill_question(rng.choice(column.questions), about), value)]
    if only and rng.random() < 0.4:
        asks.append(
            facts.Ask(
                rng.choice(
                    [
                        f"Which {head} has {column.name} {value}?",
                        f"Which {head} has a {column.name} of {value}?",
                        f"For which {head} is the {column.name} {value}?",
                    ]
                ),
                name,
            )
        )
    return facts.Fact((name, column.key), *_claims(rng, about, column, value, tuple(asks)))


def _claims(
    rng: Random, about: facts.Entity, column: relations.Relation, value: str, asks: tuple[facts.Ask, ...]
) -> tuple[str, tuple[facts.Ask, ...], str]:
    template = rng.choice(column.statements)
    return facts.fill(template, about, value), asks, facts.fill(template, about, values.other(column.kind, rng, value))


def key_values(rng: Random, about: facts.Entity) -> Table:
    """A list of 'name: value' lines about the entity in the title."""
    known = COLUMNS if rng.random() < 0.5 else [r for r in relations.ATTRIBUTES if r.kind != "reason"]
    columns = list({relation.key: relation for relation in rng.sample(known, rng.choice([2, 3, 4]))}.values())
    mark = rng.choice(["", "", "- ", "* "])
    parts = []
    for column in columns:
        value = values.draw(column.kind, rng)
        ask = facts.Ask(facts.fill_question(rng.choice(column.questions), about), value)
        fact = facts.Fact((about.name, column.key), *_claims(rng, about, column, value, (ask,)))
        parts.append((f"{mark}{facts.capital(column.name)}: {value}", (fact,)))
    return Table(facts.capital(about.name), tuple(parts))
