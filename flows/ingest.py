"""Flow: documents → validated chunks, and the cases that will measure them."""

from prefect import flow

from flows.recording import Recording, RunSpec, Summary, recording
from indexes.chunkers.spec import ChunkSpec
from indexes.embedder import EmbedSpec
from indexes.loaders.spec import CorpusSpec
from indexes.validation import ValidationSpec
from models.answering.guards.policy import GuardPolicy
from models.cases import CaseSpec
from tasks.corpus import (
    check_chunks,
    check_documents,
    chunk_corpus,
    content_of,
    corpus_changes,
    corpus_content,
    drop_duplicates,
    read_cases,
    read_corpus,
)
from tasks.training import ModelSpec, take_model


def ingest_stages(run: Recording) -> None:
    """Read, drop duplicates, validate, chunk, validate again; a failing suite stops the run."""
    policy = run.policy
    root = str(policy.path.parent.resolve())
    model = policy.section("model", ModelSpec)
    base = run.run(take_model, model=model.source(policy), content=model.content(policy)).refs["model"]

    spec = policy.section("corpus", CorpusSpec)
    content = corpus_content(spec, policy.path.parent)
    read = run.run(read_corpus, spec=spec, root=root, content=content).refs["corpus"]
    validation = policy.section("validation", ValidationSpec)
    corpus = run.run(drop_duplicates, corpus=read, spec=validation.duplicates).refs["corpus"]
    run.tell_changes(corpus_changes(corpus))
    guards = policy.section("guards", GuardPolicy) if validation.max_personal_share is not None else None
    run.run(check_documents, corpus=corpus, spec=validation, guards=guards)
    chunk = policy.section("chunking", ChunkSpec)
    embedding = policy.section("embedding", EmbedSpec) if chunk.needs_embedder else None
    chunks = run.run(chunk_corpus, corpus=corpus, spec=chunk, tokenizer=base, embedding=embedding).refs["chunks"]
    run.run(check_chunks, chunks=chunks, spec=validation)

    cases = policy.section("cases", CaseSpec)
    traffic = policy.section("traffic", CaseSpec) if "traffic" in policy.sections else None
    files = [*cases.all_files, *(traffic.all_files if traffic else ())]
    content = content_of(*(policy.folder(file) for file in files))
    run.run(read_cases, spec=cases, traffic=traffic, root=root, content=content)


@flow(name="ingest", description="Read, validate and chunk the documents of a project.")
def ingest(spec: RunSpec = RunSpec()) -> Summary:
    """Documents to checked chunks; unchanged input is taken from the kept results."""
    with recording("ingest", spec) as run:
        ingest_stages(run)
        return run.summary()
