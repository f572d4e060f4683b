"""Flow: chunks → vectors (new ones only) → index → retrieval measured on the cases."""

from prefect import flow

from flows.ingest import ingest_stages
from flows.recording import Recording, RunSpec, Summary, recording
from indexes.build import IndexSpec
from indexes.embedder import EmbedSpec
from models.answering.pipeline import AnswerSpec
from models.prompts import DEFAULT
from tasks.indexing import build, check_retrieval, embed
from tasks.training import take_prompt


def index_stages(run: Recording) -> None:
    """Embed what is new, build the index, measure dense, lexical and hybrid retrieval."""
    ingest_stages(run)
    run.run(take_prompt, prompt=DEFAULT)
    embedding = run.policy.section("embedding", EmbedSpec)
    chunks = run.ref("chunk-corpus", "chunks")
    vectors = run.run(embed, chunks=chunks, spec=embedding).refs["vectors"]
    spec = run.policy.section("index", IndexSpec)
    made = run.run(build, chunks=chunks, vectors=vectors, spec=spec, embedding=embedding).refs["index"]
    run.run(
        check_retrieval,
        index=made,
        cases=run.ref("read-cases", "cases"),
        spec=run.policy.section("answering", AnswerSpec).search,
        embedding=embedding,
        splits=[],
    )


@flow(name="index", description="Ingest, embed what is new, build the index and measure retrieval.")
def index(spec: RunSpec = RunSpec()) -> Summary:
    """From documents to a measured index; unchanged chunks are not embedded again."""
    with recording("index", spec) as run:
        index_stages(run)
        return run.summary()
