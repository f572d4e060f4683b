"""Pairs for preference optimization made by rule: the right answer, and an answer that is wrong in a known way.

| wrong in that it | chosen | rejected |
|---|---|---|
| says another span | the span with its passage | a span of the same kind out of the passages shown |
| cites another passage | the span with its passage | the same span with another passage's number |
| refuses | the span with its passage | the refusal, though a passage answers |
| invents | the refusal | a span of the passages, though none answers |
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from indexes.types import Chunk
from models.prompts import render
from models.training.data import Allowed, RowMaker, case_answer, cite, made_answer
from models.training.evidence import contains
from models.training.patterns import AMOUNT, CLOCK, DATE, NUMBER
from models.training.rows import PreferenceRow, mark_key
from models.types import Case

_KINDS = (CLOCK, DATE, AMOUNT, NUMBER, r"[A-Z][a-z]+(?: [A-Z][a-z]+)*")
"""Kinds of spans, the narrowest first; an answer of none of them is like a name."""
Rng = random.Random
Asked = tuple[str, str, list[Chunk], list[tuple[str, Chunk]]]
"""(source, question, passages shown, parts of the answer with the passages that hold them; none for a refusal)."""


def pairs_by_rule(maker: RowMaker, cases: Sequence[Case], allowed: Allowed, count: int) -> list[PreferenceRow]:
    """At most `count` pairs, one a question, cases first; the ways to be wrong in turn, by the seed of the rows."""
    found: list[PreferenceRow] = []
    for source, question, shown, answer in _questions(maker, cases, allowed):
        if len(found) == count:
            break
        rng = random.Random(f"{maker.spec.seed}:{source}:{question}")  # noqa: S311 - nothing secret
        ways = WAYS[len(found) % len(WAYS) :] + WAYS[: len(found) % len(WAYS)]
        right = "; ".join(cite(part, shown, chunk) for part, chunk in answer) or maker.prompt.refusal
        wrong = _invented(shown, (), rng) if not answer else _wrong(ways, shown, answer, maker.prompt.refusal, rng)
        if wrong:
            prompt = tuple(render(maker.prompt, shown, question, mark_key(question, shown)))
            found.append(PreferenceRow(prompt=prompt, chosen=right, rejected=wrong, source=source))
    return found


def _questions(maker: RowMaker, cases: Sequence[Case], allowed: Allowed) -> Iterator[Asked]:
    """Questions whose right answer is known, over the passages that production shows."""
    for case in cases:
        found = maker.found(case.question)
        answer = case_answer(case, found) if case.expected == "answer" else []
        if answer or case.expected == "refusal":
            yield f"case:{case.id}", case.question, found, answer
    for chunk, made in maker.questions(allowed):
        shown, held = made_answer(chunk, made, maker.found(made.question))
        if held is not None:
            yield f"corpus:{chunk.id}", made.question, shown, [(made.answer, held)]


def _wrong(
    ways: Sequence["Way"], shown: Sequence[Chunk], answer: Sequence[tuple[str, Chunk]], refusal: str, rng: Rng
) -> str:
    """The answer wrong in the first way that its passages allow; a refusal always does."""
    return next(wrong for way in ways if (wrong := way(shown, answer, refusal, rng)))


def _other_span(shown: Sequence[Chunk], answer: Sequence[tuple[str, Chunk]], _refusal: str, rng: Rng) -> str:
    parts = [part for part, _ in answer]
    kind = next((kind for kind in _KINDS if re.fullmatch(kind, parts[0])), _KINDS[-1])
    return _span(shown, kind, parts, rng)


def _other_passage(shown: Sequence[Chunk], answer: Sequence[tuple[str, Chunk]], _refusal: str, rng: Rng) -> str:
    """The same words with the numbers of passages that do not hold them."""
    parts = []
    for part, _ in answer:
        others = [chunk for chunk in shown if not contains(chunk.text, part)]
        if not others:
            return ""
        parts.append(cite(part, shown, rng.choice(others)))
    return "; ".join(parts)


def _refusal(_shown: Sequence[Chunk], _answer: Sequence[tuple[str, Chunk]], refusal: str, _rng: Rng) -> str:
    return refusal


Way = Callable[[Sequence[Chunk], Sequence[tuple[str, Chunk]], str, Rng], str]
WAYS: tuple[Way, ...] = (_other_span, _other_passage, _refusal)


def _invented(shown: Sequence[Chunk], besides: Sequence[str], rng: Rng) -> str:
    """A span of the passages, of the first kind that they hold."""
    return next((span for kind in _KINDS[1:] if (span := _span(shown, kind, besides, rng))), "")


def _span(shown: Sequence[Chunk], kind: str, besides: Sequence[str], rng: Rng) -> str:
    """A span of a kind, with the passage that holds it, that says none of `besides`."""
    spans = [
        (match.group(), chunk)
        for chunk in shown
        for match in re.finditer(rf"(?<![\w.,:-])(?:{kind})(?![\w:-]|[.,]\d)", chunk.text)
        if not any(contains(part, match.group()) or contains(match.group(), part) for part in besides)
    ]
    if not spans:
        return ""
    span, holder = rng.choice(spans)
    return cite(span, shown, holder)
