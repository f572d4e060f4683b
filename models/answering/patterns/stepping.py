"""Pattern agentic: the model reads what was found and may ask for further searches."""

import re
from dataclasses import dataclass

from indexes.lexical import words
from models.answering.patterns.lookup import Asking
from models.answering.patterns.port import Retrieved

STEP = (
    "Passages found so far:\n{passages}\n\nQuestion: {question}\n\nIf the passages answer the question, reply DONE. "
    "Otherwise reply with one line: SEARCH: and the words to search for next."
)
REPLY = re.compile(r"SEARCH:\s*(\S.*)", re.IGNORECASE)
"""The whole protocol beside DONE; a reply of another form ends the way."""


@dataclass(frozen=True, slots=True)
class Agentic:
    """At most `steps` further searches in the model's words; every search fuses all that was asked so far by rank.

    Interleaving of reading and searching: ReAct (Yao et al. 2022, arXiv:2210.03629), with one tool and no free text.
    What a passage says can at most make the model search for something, with the caller's access.
    """

    asking: Asking

    async def retrieve(self, question: str, access: frozenset[str]) -> Retrieved:
        """See Pattern."""
        lookup = self.asking.begin(question, access)
        passages = await lookup.find()
        asked: list[str] = []
        known = {tuple(words(question))}
        for _ in range(lookup.spec.steps):
            said = await lookup.ask(STEP, passages=lookup.shown(passages[: lookup.spec.shown]))
            if lookup.silent:
                break
            reply = REPLY.fullmatch(said)
            query = lookup.searchable(reply[1]) if reply else ""
            if not query:
                lookup.note("done" if said.casefold().rstrip(".") == "done" else "not understood")
                break
            if tuple(words(query)) in known:
                lookup.note("repeated")
                break
            known.add(tuple(words(query)))
            asked.append(query)
            lookup.note("searched again")
            passages = await lookup.find(lookup.probes(asked))
        return lookup.result(passages)
