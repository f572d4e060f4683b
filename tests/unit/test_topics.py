"""Topics by example: what is nearest to a question decides, within what its caller may see."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from evaluation.topic_report import TopicQuestion, load_topic_questions, topic_rows
from indexes.build import IndexSpec, build_index, load_index
from indexes.fake import HashingEmbedder
from indexes.hybrid import HybridRetriever, RetrievalSpec
from indexes.types import Vectors
from infra.errors import InputError, SetupError, TryAgainError
from models.answering.chat import Chat, Talk
from models.answering.fake import POLICY, SPEC, chunk, fake_pipeline
from models.answering.guards.guardrails import Guards
from models.answering.guards.topic_policy import TopicPolicy
from models.answering.guards.topics import Topics
from models.answering.pipeline import Pipeline
from models.prompts import DEFAULT
from models.serving.fake import FakeEngine
from models.types import Answer, Case, Message

PUBLIC, STAFF = frozenset({"public"}), frozenset({"public", "staff"})
CHUNKS = [
    chunk(1, "The fee for an appeal is 6.40 euros."),
    chunk(2, "Which lawyer takes a court case of staff.", access=("staff",)),
]
TOPICS = TopicPolicy(
    does="refuse",
    examples={"law": ("Which lawyer should take my court case?",), "votes": ("Which party should win?",)},
    min_similarity=0.4,
)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> HybridRetriever:
    folder, embedder = tmp_path_factory.mktemp("topics") / "index", HashingEmbedder()
    vectors = embedder.passages([one.embedding_text for one in CHUNKS])
    build_index(CHUNKS, vectors, IndexSpec(kind="flat"), embedder.version, folder)
    return load_index(folder, embedder, RetrievalSpec())


def piped(retriever: HybridRetriever, engine: FakeEngine, topics: TopicPolicy = TOPICS) -> Pipeline:
    return fake_pipeline(engine, CHUNKS, policy=POLICY.model_copy(update={"topics": topics}), retriever=retriever)


async def test_a_question_about_a_topic_reaches_no_model(retriever: HybridRetriever) -> None:
    engine = FakeEngine("6.40 euros [1]")
    pipeline = piped(retriever, engine)
    answer = await pipeline.answer("Which lawyer should I take to court?", PUBLIC)
    assert (answer.answer, answer.refused, answer.finish_reason) == (DEFAULT.refusal, True, "content_filter")
    assert [(one.stage, one.guard, one.action) for one in answer.guards] == [("input", "topic", "block")]
    assert answer.guards[0].detail.startswith("law, 0.")
    assert [span.name for span in answer.spans] == ["guard_input", "guard_topic"]
    assert engine.asked == []
    fine = await pipeline.answer("What is the fee for an appeal?", PUBLIC)
    assert (fine.answer, fine.guards) == ("6.40 euros", ())


async def test_only_what_the_caller_may_see_opens_a_topic(retriever: HybridRetriever) -> None:
    topics = Topics(TOPICS, HashingEmbedder(), retriever)
    question = "Which lawyer takes a court case of staff?"
    assert topics.event(question, STAFF) is None
    for closed in (PUBLIC, frozenset[str]()):
        event = topics.event(question, closed)
        assert event is not None
        assert event.detail.startswith("law, ")


def test_a_question_near_nothing_is_about_no_topic(retriever: HybridRetriever) -> None:
    assert Topics(TOPICS, HashingEmbedder(), retriever).event("Purple elephants dance", frozenset()) is None
    near = Topics(TOPICS.model_copy(update={"min_similarity": 0.0}), HashingEmbedder(), retriever)
    assert near.event("Purple elephants dance", frozenset()) is not None


async def test_a_topic_that_is_only_noted_is_answered(retriever: HybridRetriever) -> None:
    engine = FakeEngine("6.40 euros [1]")
    pipeline = piped(retriever, engine, TOPICS.model_copy(update={"does": "flag"}))
    answer = await pipeline.answer("Which lawyer should I take to court?", PUBLIC)
    assert [(one.guard, one.action) for one in answer.guards if one.stage == "input"] == [("topic", "flag")]
    assert len(engine.asked) == 1


async def test_the_last_question_of_a_conversation_counts(retriever: HybridRetriever) -> None:
    """An earlier one does not close the conversation: it was refused when it came."""
    engine = FakeEngine("Hello.")
    chat = Chat(piped(retriever, engine))
    about = Message(role="user", content="Which lawyer should I take to court?")
    hello = Message(role="user", content="Hello there")

    async def said(*messages: Message) -> Answer:
        talk = Talk(messages=messages, question=messages[-1].content)
        (answer,) = [one async for one in chat.stream(talk, PUBLIC, whole=True) if isinstance(one, Answer)]
        return answer

    refused = await said(hello, about)
    assert (refused.refused, refused.finish_reason, engine.asked) == (True, "content_filter", [])
    assert (await said(about, hello)).answer == "Hello."


async def test_an_encoder_that_fails_lets_nothing_through(retriever: HybridRetriever) -> None:
    class Failing(HashingEmbedder):
        def query(self, text: str) -> Vectors:
            if "lawyer should I" in text:
                raise TryAgainError("the encoder is away")
            return super().query(text)

    engine = FakeEngine("6.40 euros [1]")
    pipeline = Pipeline(
        release="a" * 64, retriever=retriever, engine=engine, model="fake", prompt=DEFAULT,
        guards=Guards(POLICY.model_copy(update={"topics": TOPICS})), spec=SPEC, count_tokens=len, embedder=Failing(),
    )  # fmt: skip
    answer = await pipeline.answer("Which lawyer should I take to court?", PUBLIC)
    assert (answer.answer, answer.error) == (POLICY.fallback, "guard_topic: the encoder is away")
    assert engine.asked == []


def test_what_a_policy_may_not_say(retriever: HybridRetriever) -> None:
    refused: list[dict[str, list[str]]] = [{}, {"law": []}, {"law": [""]}]
    for examples in refused:
        with pytest.raises(ValidationError, match="examples"):
            TopicPolicy.model_validate({"does": "refuse", "examples": examples})
    with pytest.raises(SetupError, match=r"guards\.topics"):
        Pipeline(
            release="a" * 64, retriever=retriever, engine=FakeEngine(""), model="fake", prompt=DEFAULT,
            guards=Guards(POLICY.model_copy(update={"topics": TOPICS})), spec=SPEC, count_tokens=len,
        )  # fmt: skip


def test_the_report_counts_what_is_found_and_what_is_stopped_wrongly(
    retriever: HybridRetriever, tmp_path: Path
) -> None:
    topics = Topics(TOPICS, HashingEmbedder(), retriever)
    asked = [
        TopicQuestion(topic="law", question="Which lawyer should I take to court?"),
        TopicQuestion(topic="law", question="Purple elephants dance"),
    ]
    cases = [Case(id="1", question="What is the fee for an appeal?", expected="answer"), Case(
        id="2", question="Which party should win?", expected="refusal")]  # fmt: skip
    shares = {row.name: row.value for row in topic_rows(topics, asked, cases, PUBLIC) if row.unit == "share"}
    assert shares == {
        "topic law: found (n = 2)": 0.5,
        "cases to be answered: taken for one of the topics (n = 1)": 0.0,
        "cases to be refused: taken for one of the topics (n = 1)": 1.0,
    }
    with pytest.raises(InputError, match="no such file"):
        load_topic_questions(tmp_path / "none.jsonl")
