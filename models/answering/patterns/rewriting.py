"""Patterns that let the model write texts to search with, beside the question."""

import re
from dataclasses import dataclass

from indexes.lexical import words
from models.answering.patterns.lookup import Asking
from models.answering.patterns.port import Retrieved

HYPOTHESIS = "Question: {question}\n\nWrite one short passage, as a document would have it, that answers the question."
WORDINGS = (
    "Question: {question}\n\nWrite {count} other wordings of the question, which mean the same in other words. "
    "One a line, nothing else."
)

_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*")


@dataclass(frozen=True, slots=True)
class Hyde:
    """Search with an answer that the model made up, beside the question.

    HyDE: Gao et al. 2022, arXiv:2212.10496. There the vectors of several made-up answers are averaged with the
    question's; here one answer makes a dense list of its own, which is fused by rank: a bad one then costs less.
    """

    asking: Asking

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        lookup = self.asking.begin(question, access)
        probes = lookup.probes([await lookup.ask(HYPOTHESIS)], mode="dense")
        lookup.note("hypothesis" if probes else "no hypothesis")
        return lookup.result(await lookup.find(probes))


@dataclass(frozen=True, slots=True)
class MultiQuery:
    """Search with other wordings of the question, fused by reciprocal rank.

    RAG-Fusion: Rackauckas 2024, arXiv:2402.03367.
    """

    asking: Asking

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        lookup = self.asking.begin(question, access)
        count = lookup.spec.variants
        said = await lookup.ask(WORDINGS, count=count)
        probes = lookup.probes(wordings(said, question)[:count])
        lookup.note(f"{len(probes)} wordings")
        return lookup.result(await lookup.find(probes))


def wordings(said: str, question: str) -> list[str]:
    """The lines of a reply without their bullets and numbers, each wording once and none that is the question."""
    lines = (_BULLET.sub("", line).strip() for line in said.splitlines())
    kept = {tuple(words(line)): line for line in reversed([line for line in lines if line])}
    kept.pop(tuple(words(question)), None)
    return list(reversed(kept.values()))
