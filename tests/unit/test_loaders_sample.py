"""The sample knowledge base as the policy reads it: complete, without outdated versions, able to answer its cases."""

from functools import lru_cache

import pytest

from evaluation.retrieval import states
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.chunkers.tokens import token_counter
from indexes.loaders.corpus import load_corpus
from indexes.loaders.spec import CorpusSpec, LoadedCorpus
from indexes.weights import embedded_model
from infra.settings import ROOT, Policy
from models.cases import CaseSpec, check_splits, load_cases
from models.types import Case

POLICY = Policy(ROOT / "sluice.yaml")


@lru_cache(maxsize=1)
def corpus() -> LoadedCorpus:
    return load_corpus(POLICY.section("corpus", CorpusSpec), ROOT)


@lru_cache(maxsize=1)
def cases() -> list[Case]:
    return [case for name in ("cases", "traffic") for case in load_cases(POLICY.section(name, CaseSpec), ROOT)]


def test_every_document_is_usable_and_every_format_is_there() -> None:
    loaded = corpus()
    assert loaded.quarantined == []
    assert len({document.id.split("#")[0] for document in loaded.documents}) >= 60
    assert {document.media for document in loaded.documents} == {"markdown", "html", "pdf", "docx", "csv", "sql"}
    assert all(document.date is not None for document in loaded.documents)


def test_outdated_versions_are_left_out_and_never_needed() -> None:
    loaded = corpus()
    kept = {document.id for document in loaded.documents}
    assert loaded.superseded
    assert not kept & set(loaded.superseded)
    assert {document for case in cases() for document in case.documents} <= kept


@pytest.mark.parametrize("whole", [True, False])
def test_every_evidence_stands_in_its_document_and_in_one_chunk(whole: bool) -> None:
    spec, count = ChunkSpec(max_tokens=110), token_counter(embedded_model())
    texts = {
        document.id: [document.text] if whole else [chunk.text for chunk in chunk_document(document, spec, count)]
        for document in corpus().documents
    }
    lost = [
        (case.id, evidence)
        for case in cases()
        if case.expected == "answer"
        for evidence in case.evidence
        if not any(states(text, evidence) for document in case.documents for text in texts[document])
    ]
    assert lost == []


def test_no_document_is_in_two_splits() -> None:
    check_splits([case for case in cases() if not case.session])
