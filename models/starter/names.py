"""Worded values of the reading tasks: people, places, organisations, things, actions, reasons, documents."""

from __future__ import annotations

from random import Random

from models.starter import lexicon
from models.starter.measures import code

STREETS = ["Street", "Road", "Lane", "Hill", "Square", "Bank", "Cross", "Green", "Quay", "Park"]
PLACE_STARTS = ["Upper", "Lower", "Great", "Little", "Port", "North", "East", "Saint", "New", "Old"]
OFFICES = ["officer", "team", "desk", "manager", "unit", "committee", "engineer", "department", "inspector"]
DOUBLED = {"plan", "ship", "scan", "submit", "transfer", "stop", "refer", "permit", "commit", "control"}


def article(text: str) -> str:
    """The text after 'a' or 'an'."""
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def past(verb: str) -> str:
    """The past form of a regular verb."""
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ied"
    return f"{verb}{verb[-1]}ed" if verb in DOUBLED else f"{verb}ed"


def syllables(rng: Random, count: int) -> str:
    """An invented name of that many syllables."""
    text = "".join(rng.choice(lexicon.ONSETS) + rng.choice(lexicon.NUCLEI) for _ in range(count))
    return (text + (rng.choice(lexicon.CODAS) if rng.random() < 0.6 else "")).capitalize()


def proper(rng: Random) -> str:
    """An invented name or a capitalised noun."""
    return syllables(rng, 2) if rng.random() < 0.6 else rng.choice(lexicon.NOUNS).capitalize()


def place(rng: Random) -> str:
    """A town, an invented village, a street."""
    roll = rng.random()
    if roll < 0.35:
        return rng.choice(lexicon.cities())
    if roll < 0.6:
        return syllables(rng, 1) + rng.choice(lexicon.PLACE_ENDS)
    if roll < 0.75:
        return syllables(rng, rng.randint(1, 3))
    if roll < 0.88:
        return f"{rng.choice(lexicon.NOUNS).capitalize()} {rng.choice(STREETS)}"
    return f"{rng.choice(PLACE_STARTS)} {syllables(rng, rng.randint(1, 2))}"


def where(rng: Random) -> str:
    """A place as it follows a verb: 'in Harrow', 'on the third floor', 'behind the pump'."""
    if rng.random() < 0.5:
        return f"{rng.choice(['in', 'in', 'near', 'at'])} {place(rng)}"
    spot = rng.choice(lexicon.SPOTS).format(d=rng.randint(1, 40), l=rng.choice("ABCDEFGH"))
    if spot[-1].isdigit() or spot[-2] == " ":
        return f"in {spot}"
    if rng.random() < 0.5:
        return f"{rng.choice(['behind', 'next to', 'under', 'beside', 'opposite', 'above'])} the {noun_phrase(rng)}"
    return f"{rng.choice(['on', 'at'])} the {spot}"


def person(rng: Random) -> str:
    """A full name, or a title or initial with a family name."""
    first = rng.choice(lexicon.first_names()) if rng.random() < 0.8 else syllables(rng, rng.randint(1, 2))
    last = rng.choice(lexicon.last_names()) if rng.random() < 0.7 else syllables(rng, rng.randint(1, 2))
    roll = rng.random()
    if roll < 0.12:
        return f"{rng.choice(['Dr', 'Ms', 'Mr', 'Mrs', 'Prof.'])} {last}"
    return f"{first[0]}. {last}" if roll < 0.18 else f"{first} {last}"


def role(rng: Random) -> str:
    """An office or function: 'the duty chemist'."""
    invented = f"the {rng.choice(lexicon.NOUNS)} {rng.choice(OFFICES)}"
    return invented if rng.random() < 0.2 else f"the {rng.choice(lexicon.ROLES)}"


def organisation(rng: Random) -> str:
    """A firm or body."""
    stem = rng.choice([rng.choice(lexicon.last_names()), syllables(rng, 2), place(rng), syllables(rng, 1)])
    return f"{stem} {rng.choice(lexicon.ORG_ENDS)}"


def agent(rng: Random) -> str:
    """Someone who acts: a person, an office or a firm."""
    return rng.choice([person, person, role, role, organisation])(rng)


def email(rng: Random) -> str:
    """An e-mail address."""
    user = rng.choice([rng.choice(lexicon.NOUNS), rng.choice(lexicon.last_names()).lower(), syllables(rng, 1).lower()])
    host = syllables(rng, rng.randint(1, 2)).lower()
    return f"{user}@{host}.{rng.choice(['example', 'org', 'com', 'net'])}"


def colour(rng: Random) -> str:
    """A colour."""
    return rng.choice(lexicon.COLOURS)


def material(rng: Random) -> str:
    """A material."""
    return rng.choice(lexicon.MATERIALS)


def noun_phrase(rng: Random) -> str:
    """One to three words: 'blue valve', 'pump house', 'early tide gauge'."""
    words = rng.choice(["an", "an", "an", "nn", "nn", "ann", "n", "n"])
    return " ".join(rng.choice(lexicon.ADJECTIVES if word == "a" else lexicon.NOUNS) for word in words)


def thing(rng: Random) -> str:
    """A noun phrase with its article."""
    return f"the {noun_phrase(rng)}" if rng.random() < 0.7 else article(noun_phrase(rng))


def action(rng: Random) -> str:
    """A verb phrase in the base form: 'close the blue valve'."""
    text = f"{rng.choice(lexicon.VERBS)} {thing(rng)}"
    return text if rng.random() < 0.75 else f"{text} {where(rng)}"


def phrase(rng: Random) -> str:
    """One to three unrelated words, so that a span is copied without any help from its meaning."""
    return " ".join(rng.sample(lexicon.common_words(), rng.randint(1, 3)))


def reason(rng: Random) -> str:
    """A clause that follows 'because'."""
    if rng.random() < 0.45:
        return rng.choice([text for text in lexicon.REASONS if not text.startswith("of ")])
    form = rng.choice(["the {n} was {a}", "the {n} had been {v}", "nobody {v} the {n}", "the {n} of the {m} was {a}"])
    return form.format(
        n=rng.choice(lexicon.NOUNS),
        m=rng.choice(lexicon.NOUNS),
        a=rng.choice(lexicon.ADJECTIVES),
        v=past(rng.choice(lexicon.VERBS)),
    )


def condition(rng: Random) -> str:
    """A clause that limits a rule: 'unless the valve is wet'."""
    return rng.choice(lexicon.CONDITIONS).format(
        n=rng.choice(lexicon.NOUNS), a=rng.choice(lexicon.ADJECTIVES), v=past(rng.choice(lexicon.VERBS))
    )


def document(rng: Random) -> str:
    """A paper to be shown: 'proof of identity'."""
    if rng.random() < 0.5:
        return rng.choice(lexicon.DOCS).format(c=code(rng))
    return article(f"{rng.choice(lexicon.ADJECTIVES)} {rng.choice(lexicon.NOUNS)}")


def listing(rng: Random) -> str:
    """Two to four nouns: 'pump, seal and key'."""
    items = rng.sample(lexicon.NOUNS, rng.choice([2, 3, 3, 4]))
    return f"{', '.join(items[:-1])} and {items[-1]}"
