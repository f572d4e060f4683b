"""A retriever over a few chunks and a pipeline around it, for unit tests: no encoder, no index, no tokenizer."""

from collections.abc import Sequence

from indexes.fake import HashingEmbedder
from indexes.filters import Filters
from indexes.hybrid import RetrievalSpec
from indexes.retriever import Mode, Probe, Retriever
from indexes.types import Chunk, Passage
from infra.errors import SluiceError
from models.answering.context import ContextSpec
from models.answering.guards.grounding import WORD
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import AnswerSpec, GenerationSpec, Pipeline
from models.prompts import DEFAULT
from models.types import Engine

POLICY = GuardPolicy(
    max_question_chars=200,
    max_answer_chars=120,
    question_injection="flag",
    passage_injection="drop",
    personal_data="refuse",
    personal_min_score=0.4,
    personal_patterns={"ACCOUNT_NUMBER": r"\b77\d{8}\b"},
    allowed=(r"0800 555 01\d\d", r"[\w.]+@merrowvale-water\.example"),
    uncited="refuse",
    grounding_min_share=1.0,
    leak_tokens=("zx-canary-91",),
    fallback="The answer service has a fault.",
)

SPEC = AnswerSpec(
    search=RetrievalSpec(k=20),
    context=ContextSpec(passages=3, token_budget=200, near_duplicate=0.9, order="best-first"),
    generation=GenerationSpec(max_tokens=32, timeout_s=5),
)


def chunk(number: int, text: str, *, access: tuple[str, ...] = ("public",), title: str = "Guide") -> Chunk:
    """A chunk of document `doc-<number>`."""
    name = f"doc-{number}"
    return Chunk(
        id=f"chunk-{number}", document=name, title=title, text=text, start=0, end=len(text), tokens=0, access=access
    )


class FakeRetriever(Retriever):
    """Ranks by the number of words shared with the question; `failure` is raised when set."""

    def __init__(self, chunks: Sequence[Chunk], failure: SluiceError | None = None) -> None:
        self.chunks = list(chunks)
        self.failure = failure

    def search(
        self,
        question: str,
        access: frozenset[str],
        k: int,
        mode: Mode | None = None,
        *,
        filters: Filters | None = None,
        probes: Sequence[Probe] = (),
        neighbours: bool = False,
    ) -> list[Passage]:
        """See Retriever; the words of probes count like those of the question, and nothing has neighbours."""
        if self.failure is not None:
            raise self.failure
        asked = {
            word for text in (question, *(probe.text for probe in probes)) for word in WORD.findall(text.casefold())
        }
        seen = [one for one in self.chunks if access & set(one.access) and (filters is None or filters.meets(one))]
        scored = [
            Passage(chunk=one, score=float(len(asked & set(WORD.findall(one.embedding_text.casefold())))))
            for one in seen
        ]
        return sorted(scored, key=lambda passage: -passage.score)[:k]


def fake_pipeline(
    engine: Engine,
    chunks: Sequence[Chunk],
    *,
    release: str = "a" * 64,
    policy: GuardPolicy = POLICY,
    retriever: Retriever | None = None,
    spec: AnswerSpec = SPEC,
) -> Pipeline:
    """A pipeline that counts words as tokens."""
    return Pipeline(
        release=release,
        retriever=retriever or FakeRetriever(chunks),
        engine=engine,
        model="fake",
        prompt=DEFAULT,
        guards=Guards(policy),
        spec=spec,
        count_tokens=lambda text: len(text.split()),
        embedder=HashingEmbedder(),
    )
