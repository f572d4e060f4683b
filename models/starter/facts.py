"""Facts of the reading tasks: one sentence that states a value, the questions it answers, and a false version of it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from models.starter import lexicon, measures, names, relations, values


@dataclass(frozen=True, slots=True)
class Ask:
    """A question and its answer, a verbatim span of the fact's sentence."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One stated value, or several.

    `key` names what is stated (two facts with one key would contradict); `false` is the sentence with one thing
    changed; `full` is the sentence with the entity's name where the sentence itself leaves it to the title.
    """

    key: tuple[str, str]
    sentence: str
    asks: tuple[Ask, ...]
    false: str
    full: str = ""

    @property
    def claim(self) -> str:
        return self.full or self.sentence


@dataclass(frozen=True, slots=True)
class Entity:
    """Something facts are about: `name` with its article ('the Harrow depot'), `kind` a common noun for later mentions,
    `aliases` other ways to say the name that are as precise ('the depot in Harrow')."""

    name: str
    kind: str
    aliases: tuple[str, ...] = ()


def capital(text: str) -> str:
    """The text with its first letter upper-case."""
    return text[:1].upper() + text[1:]


def entity(rng: Random) -> Entity:
    """A fresh entity: a named site, a named thing, an organisation, a place, a code or a plain noun phrase."""
    roll = rng.random()
    if roll < 0.3:
        kind, stem = rng.choice(lexicon.KINDS), names.place(rng)
        forms = [
            f"the {stem} {kind}",
            f"{stem} {kind}",
            f"the {kind} at {stem}",
            f"the {kind} of {stem}",
            f"the {kind} in {stem}",
        ]
        return _named(rng, forms, kind)
    if roll < 0.5:
        kind = rng.choice(lexicon.THINGS)
        stem = rng.choice([measures.code, measures.code, names.proper])(rng)
        return _named(rng, [f"the {stem} {kind}", f"{kind} {stem}", f"the {kind} {stem}"], kind)
    if roll < 0.6:
        return Entity(names.organisation(rng), "company")
    if roll < 0.68:
        return Entity(names.place(rng), "place")
    if roll < 0.76:
        code, kind = measures.code(rng), rng.choice(["unit", "device", "line", "model"])
        return Entity(code, kind, (f"{kind} {code}",))
    phrase = names.noun_phrase(rng)
    return Entity(f"the {phrase}", phrase.split()[-1], (phrase,))


def _named(rng: Random, forms: list[str], kind: str) -> Entity:
    name, *aliases = rng.sample(forms, 3)
    return Entity(name, kind, tuple(aliases))


def sibling(rng: Random, first: Entity) -> Entity:
    """A near-identical name: one digit, one word or one ending changed."""
    name = first.name
    digits = [i for i, c in enumerate(name) if c.isdigit()]
    if digits:
        spot = rng.choice(digits)
        return Entity(name[:spot] + str((int(name[spot]) + rng.randint(1, 9)) % 10) + name[spot + 1 :], first.kind)
    words = name.split()
    spot = rng.randrange(1 if words[0] == "the" and len(words) > 1 else 0, len(words))
    if words[spot][0].isupper():
        words[spot] = (
            names.syllables(rng, rng.randint(1, 2))
            if rng.random() < 0.7
            else words[spot] + rng.choice(["ton", "ham", "en"])
        )
    else:
        words[spot] = rng.choice(lexicon.ADJECTIVES if spot < len(words) - 1 else lexicon.NOUNS)
    return Entity(" ".join(words), first.kind if words[-1] == name.split()[-1] else words[-1])


def fill(template: str, about: Entity, value: str, mention: str = "") -> str:
    """The statement about the entity; `mention` takes the place of its name."""
    name = mention or about.name
    text = template.replace("{E}", capital(name)).replace("{e}", name).replace("{v}", value)
    return capital(text)


def fill_question(template: str, about: Entity) -> str:
    """The question about the entity; the elliptical and lower-case templates keep their first letter."""
    text = template.replace("{E}", about.name).replace("{e}", about.name)
    return capital(text) if template[0] not in "wa{" else text


BARE = """
The {a} is {v}.|The {a} is {v}.|{A}: {v}.|The {a} is always {v}.|The {a} amounts to {v}.|{v} is the {a}.|
The {a} has been {v} since last year.
""".replace("\n", "").split("|")
"""Statements of an attribute that leave the entity to the title."""


def relation_fact(rng: Random, about: Entity, relation: relations.Relation, rival: Entity, mention: str = "") -> Fact:
    """A fact of one relation; with a `mention` ('it', 'the depot') the sentence leaves the name to the title.

    The false version has another value or is told of the rival.
    """
    value = values.draw(relation.kind, rng)
    template = told = rng.choice(relation.statements)
    if mention and relation.name and rng.random() < 0.5:
        template, mention = rng.choice(BARE).replace("{a}", relation.name).replace("{A}", capital(relation.name)), ""
    elif mention:
        usable = [s for s in relation.statements if s.startswith("{E} ")]
        template, mention = (rng.choice(usable), mention) if usable else (template, "")
    sentence = fill(template, about, value, mention)
    value = value if value in sentence else capital(value)
    if rng.random() < 0.6 or rival == about:
        wrong = fill(told, about, values.other(relation.kind, rng, value))
    else:
        wrong = fill(told, rival, value)
    chosen = rng.sample(relation.questions, min(3, len(relation.questions)))
    asks = tuple(Ask(fill_question(question, about), value) for question in chosen)
    return Fact((about.name, relation.key), sentence, asks, wrong, fill(told, about, value))


CHANGES = (
    """
From {d} the {a} of {e} changes from {o} to {n}.|The {a} of {e} will be {n} from {d}; until then it was {o}.|
On {d} the {a} for {e} was changed to {n}. Before that it was {o}.|
The {a} of {e} used to be {o}; since {d} it has been {n}.|
Until {d}, the {a} for {e} was {o}. It is now {n}.|With effect from {d}, the {a} for {e} goes from {o} to {n}.
""".strip()
    .replace("\n", "")
    .split("|")
)


def change_fact(rng: Random, about: Entity, relation: relations.Relation) -> Fact:
    """A value that changes on a date: old, new and date are three questions; the false version swaps old and new."""
    old = values.draw(relation.kind, rng)
    new = values.other(relation.kind, rng, old)
    date = values.other("date", rng, new)
    name, noun = about.name, relation.name
    form = rng.choice(CHANGES).replace("{d}", date).replace("{a}", noun).replace("{e}", name)
    news = [
        "What is the new {a} of {e}?",
        "What is the {a} of {e} now?",
        "What is the current {a} for {e}?",
        "What is the {a} of {e} from {d}?",
    ]
    olds = ["What was the old {a} of {e}?", "What was the {a} of {e} before {d}?", "What used to be the {a} of {e}?"]
    dates = [
        "When does the {a} of {e} change?",
        "From when does the new {a} of {e} apply?",
        "On what date was the {a} for {e} changed?",
    ]
    asks = tuple(
        Ask(rng.choice(asked).replace("{d}", date).replace("{a}", noun).replace("{e}", name), value)
        for asked, value in ((news, new), (olds, old), (dates, date))
    )
    sentence = form.replace("{o}", old).replace("{n}", new)
    return Fact((name, relation.key), sentence, asks, form.replace("{o}", new).replace("{n}", old))


LEXICAL = """
The {n} of {e} is {v}.|{e} has {v} as its {n}.|{v} is the {n} of {e}.|{e}, {n}: {v}.|The {n} for {e} was {v}.|
As {n}, {e} has {v}.|
{n} ({e}): {v}.
""".replace("\n", "").split("|")
LEXICAL_KINDS = [
    "phrase",
    "number",
    "code",
    "place",
    "person",
    "quantity",
    "thing",
    "date",
    "money",
    "action",
    "organisation",
]


def lexical_fact(rng: Random, about: Entity) -> Fact:
    """A property named by random words: matching by words and copying without any meaning to lean on."""
    noun = names.noun_phrase(rng) if rng.random() < 0.8 else " ".join(rng.sample(lexicon.common_words(), 2))
    kind = rng.choice(LEXICAL_KINDS)
    value = values.draw(kind, rng)
    name = about.name
    form = rng.choice(LEXICAL).replace("{n}", noun).replace("{e}", name)
    sentence = capital(form.replace("{v}", value))
    asked = [
        f"What is the {noun} of {name}?",
        f"What {noun} does {name} have?",
        f"Which {noun} does {name} have?",
        f"{noun} of {name}?",
        f"What is given as the {noun} for {name}?",
    ]
    ask = Ask(capital(rng.choice(asked)), value if value in sentence else capital(value))
    return Fact((name, noun), sentence, (ask,), capital(form.replace("{v}", values.other(kind, rng, value))))
