"""Free facts of the reading tasks: events and rules in random words, with a question on each slot of the sentence."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from models.starter import lexicon, measures, names, values
from models.starter.facts import Ask, Fact, capital


def _fact(key: tuple[str, str], sentence: str, asks: list[Ask], false: str) -> Fact:
    """Capitalise the sentence and its questions; an answer that opens the sentence is capitalised with it."""
    sentence = capital(sentence)
    said = (Ask(capital(a.question), a.answer if a.answer in sentence else capital(a.answer)) for a in asks)
    return Fact(key, sentence, tuple(said), capital(false))


def _on(date: str) -> str:
    """The date with its preposition: 'in 1987', 'on 4 May'."""
    if date.startswith("the "):
        return date
    bare_year = date[-4:].isdigit() and " " not in date
    return f"{'in' if bare_year else 'on'} {date}"


def event_fact(rng: Random) -> Fact:
    """Who did what, where, when and why: each slot is a question."""
    who, verb, what = names.agent(rng), rng.choice(lexicon.VERBS), names.thing(rng)
    done = names.past(verb)
    where, date, reason = names.where(rng), measures.date(rng), names.reason(rng)
    given = set(rng.sample(["where", "date", "reason"], rng.choice([1, 1, 2])))
    front = "date" in given and rng.random() < 0.3
    core = f"{who} {done} {what}" if rng.random() < 0.6 else f"{what} was {done} by {who}"
    tail = f" {where}" if "where" in given else ""
    tail += f" {_on(date)}" if "date" in given and not front else ""
    tail += f" because {reason}" if "reason" in given else ""
    sentence = f"{_on(date)} {core}{tail}." if front else f"{core}{tail}."
    asks = [
        Ask(rng.choice([f"Who {done} {what}?", f"By whom was {what} {done}?", f"Who was it that {done} {what}?"]), who),
        Ask(rng.choice([f"What did {who} {verb}?", f"What was {done} by {who}?"]), what),
    ]
    if "where" in given:
        asks.append(Ask(rng.choice([f"Where did {who} {verb} {what}?", f"Where was {what} {done}?"]), where))
    if "date" in given:
        forms = [f"When did {who} {verb} {what}?", f"When was {what} {done}?", f"On what date was {what} {done}?"]
        asks.append(Ask(rng.choice(forms), date))
    if "reason" in given:
        forms = [f"Why did {who} {verb} {what}?", f"Why was {what} {done}?", f"For what reason was {what} {done}?"]
        asks.append(Ask(rng.choice(forms), reason))
    if rng.random() < 0.5:
        false = sentence.replace(who, values.other("agent", rng, who))
    else:
        false = sentence.replace(what, values.other("thing", rng, what))
    return _fact((what, f"{verb}-{who}"), sentence, asks, false)


Rule = Callable[[Random, str, str, str], Fact]
"""A shape of rule: draws its own slots around the given actor (who), base verb and object (what)."""


def _within(rng: Random, who: str, verb: str, what: str) -> Fact:
    term = measures.duration(rng)
    word = rng.choice(["within", "within", "no later than", "for at least", "every"])
    sentence = f"{who} must {verb} {what} {word} {term}."
    asks = [
        Ask(rng.choice([f"What must {who} {verb} {word} {term}?", f"What is it that {who} must {verb}?"]), what),
        Ask(f"Who must {verb} {what}?", who),
    ]
    if word == "within":
        forms = [
            f"Within what time must {who} {verb} {what}?",
            f"Within how many {term.split()[-1]} must {what} be {names.past(verb)}?",
            f"How much time is there to {verb} {what}?",
            f"How soon must {what} be {names.past(verb)}?",
        ]
        asks += [Ask(rng.choice(forms), term)] * 2
    elif word == "for at least":
        asks.append(Ask(f"For how long must {who} {verb} {what}?", term))
    else:
        ask = "By when" if word == "no later than" else "How often"
        asks.append(Ask(f"{ask} must {who} {verb} {what}?", f"{word} {term}"))
    if rng.random() < 0.5:
        return _fact((who, f"{verb}-{what}"), sentence, asks, sentence.replace(" must ", " need not "))
    return _fact((who, f"{verb}-{what}"), sentence, asks, sentence.replace(term, values.other("duration", rng, term)))


def _passive(rng: Random, who: str, verb: str, what: str) -> Fact:
    condition, done = names.condition(rng), names.past(verb)
    sentence = f"{what} must be {done} by {who} {condition}."
    forms = [f"When must {what} be {done}?", f"Under what condition must {what} be {done}?"]
    asks = [Ask(f"Who must {verb} {what}?", who), Ask(rng.choice(forms), condition)]
    return _fact((who, f"{verb}-{what}"), sentence, asks, sentence.replace("must be", "must never be"))


def _fee(rng: Random, who: str, verb: str, what: str) -> Fact:
    cost = measures.money(rng)
    forms = [
        f"{who} who {verb} {what} pay {cost}.",
        f"A fee of {cost} is due from {who} who {verb} {what}.",
        f"To {verb} {what}, {who} pay {cost}.",
        f"If {who} {verb} {what}, a charge of {cost} applies.",
    ]
    asked = [
        f"How much do {who} pay to {verb} {what}?",
        f"What does it cost {who} to {verb} {what}?",
        f"What is the charge if {who} {verb} {what}?",
        f"How much is the fee to {verb} {what}?",
    ]
    sentence = rng.choice(forms)
    false = sentence.replace(cost, values.other("money", rng, cost))
    return _fact((who, f"{verb}-{what}"), sentence, [Ask(rng.choice(asked), cost)], false)


def _ban(rng: Random, who: str, verb: str, what: str) -> Fact:
    condition = names.condition(rng)
    be = "is" if who.startswith("the ") else "are"
    forms = [f"{who} {be} not allowed to {verb} {what} {condition}.", f"{who} may not {verb} {what} {condition}."]
    asks = [
        Ask(
            rng.choice([f"What {be} {who} not allowed to do?", f"What may {who} not do {condition}?"]), f"{verb} {what}"
        ),
        Ask(f"Who may not {verb} {what}?", who),
        Ask(f"When may {who} not {verb} {what}?", condition),
    ]
    sentence = rng.choice(forms)
    false = sentence.replace("not allowed", "allowed").replace("may not", "may")
    return _fact((who, f"{verb}-{what}"), sentence, asks, false)


def _papers(rng: Random, who: str, verb: str, what: str) -> Fact:
    need = names.document(rng)
    forms = ["To {d}, {w} need {n}.", "{w} who want to {d} must show {n}.", "{n} is needed to {d}."]
    asked = [
        f"What is needed to {verb} {what}?",
        f"What do {who} need to {verb} {what}?",
        f"What must I show to {verb} {what}?",
    ]
    form = rng.choice(forms).replace("{d}", f"{verb} {what}").replace("{w}", who)
    false = form.replace("{n}", values.other("document", rng, need))
    return _fact((who, f"{verb}-{what}"), form.replace("{n}", need), [Ask(rng.choice(asked), need)], false)


def _threshold(rng: Random, who: str, verb: str, what: str) -> Fact:
    limit = measures.quantity(rng)
    bound = rng.choice(["more than", "less than", "at most", "up to", "at least"])
    measure = rng.choice(["pressure", "level", "flow", "noise", "temperature", "weight", "reading", "volume", "count"])
    sentence = f"{who} must {verb} {what} if the {measure} is {bound} {limit}."
    forms = [
        f"At what {measure} must {who} {verb} {what}?",
        f"What {measure} is the limit at which {who} {verb} {what}?",
    ]
    asks = [
        Ask(rng.choice(forms), f"{bound} {limit}"),
        Ask(f"What must {who} do if the {measure} is {bound} {limit}?", f"{verb} {what}"),
    ]
    return _fact((who, f"{verb}-{what}"), sentence, asks, sentence.replace(limit, values.other("quantity", rng, limit)))


def _then(rng: Random, who: str, verb: str, what: str) -> Fact:
    condition, then = names.condition(rng), f"{verb} {what}"
    sentence = rng.choice([f"{condition}, {who} must {then}.", f"{who} must {then} {condition}."])
    forms = [
        f"What must {who} do {condition}?",
        f"What should be done {condition}?",
        f"{condition}, what must {who} do?",
    ]
    asks = [Ask(rng.choice(forms), then), Ask(f"Who must {then}?", who)]
    return _fact((who, f"{verb}-{what}"), sentence, asks, sentence.replace("must", "must not"))


SHAPES: tuple[Rule, ...] = (_within, _within, _passive, _fee, _ban, _papers, _threshold, _then)
GROUPS = [
    "customers",
    "tenants",
    "visitors",
    "staff",
    "operators",
    "contractors",
    "drivers",
    "members",
    "residents",
    "owners",
    "users",
]


def rule_fact(rng: Random) -> Fact:
    """A rule: who must or may not do what, within which time, at which price or under which condition."""
    who = rng.choice([rng.choice(GROUPS), rng.choice(GROUPS), names.role(rng), f"the {rng.choice(lexicon.NOUNS)}"])
    return rng.choice(SHAPES)(rng, who, rng.choice(lexicon.VERBS), names.thing(rng))


FREE: tuple[Callable[[Random], Fact], ...] = (event_fact, rule_fact)
