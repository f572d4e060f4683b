"""Generated reading tasks: a few passages about fresh random facts and a conversation of questions on them.

`example(seed)` is deterministic. Every answer is a verbatim span of the passage it cites; a refusal's question has no
support in any passage; an unsupported claim differs from the passage in a value, an entity or the polarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from models.starter import facts, sentences
from models.starter.world import World

SYSTEM = "Answer from the passages. Cite the passage number."
REFUSAL = "The passages do not say."
JUDGE = "Do the passages support the claim? Answer yes or no."


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its gold reply; `kind` is span, pair, refusal or claim; `spans` are (answer, passage number)."""

    question: str
    reply: str
    kind: str
    spans: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """`passages` are rendered in the first user message, numbered from 1."""

    passages: tuple[str, ...]
    turns: tuple[Turn, ...]

    def messages(self) -> list[dict[str, str]]:
        out = [{"role": "system", "content": SYSTEM}]
        for index, turn in enumerate(self.turns):
            content = turn.question if index else f"{render(self.passages)}\n\n{turn.question}"
            out += [{"role": "user", "content": content}, {"role": "assistant", "content": turn.reply}]
        return out


def render(passages: tuple[str, ...]) -> str:
    """The passages as the prompt shows them, each with its number."""
    return "\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))


def _style(rng: Random, question: str) -> str:
    """The ways users type: politely, without capitals, without a question mark."""
    roll = rng.random()
    small = question[:1].lower() + question[1:]
    if roll < 0.05:
        question = question.lower().rstrip("?") if rng.random() < 0.5 else small
    elif roll < 0.09:
        question = rng.choice(["Please tell me: ", "Hello, ", "I would like to know: ", "Quick question: "]) + small
    elif roll < 0.12:
        question = f"{question} {rng.choice(['Thanks.', 'Please be brief.', 'I could not find it.'])}"
    return f"Question: {question}"


def example(seed: int, long: float = 0.2, turns: int = 0, lines: Sequence[sentences.Line] = ()) -> Example:
    """One conversation; `long` is the share of pages with long passages, `turns` fixes how many questions.

    `lines` are further sentence patterns, which then make up most of the text and all of the answered questions.
    """
    rng = Random(seed)  # noqa: S311 - generated tasks, no secret
    short = rng.random() >= long
    world = World(rng, short, lines)
    drafts = world.passages(rng.choice([1, 1, 2, 2, 3, 3, 4, 5] if short else [1, 2, 2, 3, 3, 4, 5]))
    pool = [(number, fact) for number, draft in enumerate(drafts, 1) for fact in draft.stated]
    if lines:
        pool = [(number, fact) for number, fact in pool if fact.key[1].startswith("given-")]
    if not pool and rng.random() < 0.9:
        return example(rng.getrandbits(62), long, turns, lines)
    made = [_turn(rng, world, pool) for _ in range(turns or rng.randint(3, 5 if short else 12))]
    return Example(tuple(draft.text() for draft in drafts), tuple({turn.question: turn for turn in made}.values()))


def _turn(rng: Random, world: World, pool: list[tuple[int, facts.Fact]]) -> Turn:
    """A question on the facts of the pool (passage number, fact), or one that nothing answers."""
    roll = rng.random()
    if roll < 0.17 or not pool:
        return Turn(_style(rng, world.absent()), REFUSAL, "refusal")
    number, fact = rng.choice(pool)
    if roll < 0.27:
        true = rng.random() < 0.5 or fact.false == fact.claim
        return Turn(f"Claim: {fact.claim if true else fact.false}\n{JUDGE}", "yes" if true else "no", "claim")
    ask = rng.choice(fact.asks)
    second, other = rng.choice(pool)
    if roll < 0.33 and other is not fact:
        more = rng.choice(other.asks)
        joined = f"{ask.question.rstrip('?.')}, and {more.question[:1].lower()}{more.question[1:]}"
        question = joined if rng.random() < 0.6 else f"{ask.question} {more.question}"
        reply = f"{ask.answer} [{number}]; {more.answer} [{second}]"
        return Turn(_style(rng, question), reply, "pair", ((ask.answer, number), (more.answer, second)))
    question = _rename(rng, ask.question, fact, world)
    return Turn(_style(rng, question), f"{ask.answer} [{number}]", "span", ((ask.answer, number),))


def _rename(rng: Random, question: str, fact: facts.Fact, world: World) -> str:
    """Now and then the question has another name of the entity, or its kind where the page is about one entity."""
    about = next((entity for entity in world.entities if entity.name == fact.key[0]), None)
    if about is None or rng.random() > 0.25:
        return question
    names = [*about.aliases, *([f"the {about.kind}"] if len(world.entities) == 1 else [])]
    return question.replace(about.name, rng.choice(names)) if names else question
