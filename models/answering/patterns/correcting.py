"""Pattern corrective: what was found is graded, and searched for once more where the grade is low."""

from collections.abc import Sequence
from dataclasses import dataclass

from indexes.lexical import words
from indexes.retriever import Probe
from indexes.types import Chunk, Passage
from models.answering.patterns.lookup import Asking, Lookup
from models.answering.patterns.port import Retrieved
from models.prompts import render_support

REWRITE = "Question: {question}\n\nWrite the question again in other words, as a search. One line, nothing else."
CLAIM = "The passages answer the question: {question}"


@dataclass(frozen=True, slots=True)
class Corrective:
    """Two searches at most: the second is wider, and is handed on only if its grade is higher.

    CRAG: Yan et al. 2024, arXiv:2401.15884. There a trained evaluator grades every passage, and the web is searched
    where all are wrong. Here the grade is a rule or one judgement, and the second search has the question in other
    words, the mode that the release leaves out and twice the candidates: nothing outside the index is read.
    """

    asking: Asking

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        lookup = self.asking.begin(question, access)
        first = await lookup.find()
        grade = await self._grade(lookup, first)
        if grade is None or grade >= lookup.spec.grade:
            lookup.note("no grade" if grade is None else "kept")
            return lookup.result(first)
        probes = lookup.probes([await lookup.ask(REWRITE)])
        if lookup.failed:
            return lookup.result(first)
        if lookup.mode != "hybrid":
            probes.append(Probe(question, "lexical" if lookup.mode == "dense" else "dense"))
        widened = await lookup.find(probes, k=2 * lookup.k)
        again = await self._grade(lookup, widened)
        better = again is not None and again > grade
        lookup.note("widened" if better else "widened in vain")
        return lookup.result(widened[: lookup.k] if better else first)

    async def _grade(self, lookup: Lookup, passages: Sequence[Passage]) -> float | None:
        """How well the best passages answer, 0 to 1; None where the model does not say."""
        best = lookup.as_data(passages[: lookup.spec.graded])
        if not best:
            return 0.0
        if lookup.spec.grade_by == "words":
            return word_grade(lookup.question, best)
        claim = CLAIM.format(question=lookup.question)
        said = await lookup.say(render_support(lookup.prompt, best, claim, lookup.key))
        return {"yes": 1.0, "no": 0.0}.get(said.casefold().rstrip("."))


def word_grade(question: str, passages: Sequence[Chunk]) -> float:
    """Largest share of the question's words that one passage holds in title or text; 1 for a question without any."""
    wanted = set(words(question))
    if not wanted:
        return 1.0
    return max(len(wanted & set(words(f"{one.title} {one.text}"))) / len(wanted) for one in passages)
