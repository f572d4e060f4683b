"""Pattern self-query: conditions that the question states narrow the search."""

from dataclasses import dataclass

from pydantic import ValidationError

from indexes.filters import Filters
from models.answering.patterns.conditions import conditions
from models.answering.patterns.lookup import Asking, Lookup
from models.answering.patterns.port import Retrieved

CONDITIONS = (
    "Question: {question}\n\nWhich documents does the question restrict itself to? Reply with one JSON object that has "
    'none, some or all of these fields: "since" and "until" (dates, YYYY-MM-DD), "title" (words of the title), '
    '"documents" (a list of file patterns such as "*.pdf"). Reply with {{}} where it does not say.'
)


@dataclass(frozen=True, slots=True)
class SelfQuery:
    """One search among the documents that the question restricts itself to.

    The self-querying retriever of LangChain lets a model write the filter; here a rule does, unless the spec names the
    model, whose reply is checked field by field. A filter adds to those of the release and to the caller's access, and
    can open nothing; one that leaves too little is dropped.
    """

    asking: Asking

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        lookup = self.asking.begin(question, access)
        filters, by = await self._filters(lookup)
        if filters == Filters():
            lookup.note("no filter")
            return lookup.result(await lookup.find())
        lookup.note(f"filters by {by}")
        passages = await lookup.find(filters=filters)
        if len(passages) < min(lookup.spec.min_passages, lookup.k):
            lookup.note("filter dropped")
            passages = await lookup.find()
        return lookup.result(passages)

    async def _filters(self, lookup: Lookup) -> tuple[Filters, str]:
        """The model's, where it is asked and gives valid ones; otherwise the rule's; and whose they are."""
        if lookup.spec.filters_by == "model":
            said = await lookup.ask(CONDITIONS)
            stated = stated_filters(said[: lookup.spec.probe_chars])
            if stated is not None:
                return stated, "model"
        return conditions(lookup.question), "rule"


def stated_filters(said: str) -> Filters | None:
    """The filters of the JSON object in a reply; None where there is none or one of its fields is no filter."""
    try:
        return Filters.model_validate_json(said[said.find("{") : said.rfind("}") + 1], strict=True)
    except ValidationError:
        return None
