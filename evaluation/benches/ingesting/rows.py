"""Rows on the cost of ingest: what an unchanged and a slightly changed corpus take, memory, chunking, loading."""

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.benches import BenchRow
from evaluation.benches.ingesting.chain import Chain
from evaluation.benches.ingesting.documents import write_documents
from evaluation.intervals import ratio_interval
from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import open_strategy
from indexes.chunkers.tokens import TokenCounter, token_counter
from indexes.embedder import EmbedSpec, SentenceTransformerEmbedder
from indexes.loaders.html import read_html
from indexes.loaders.pdf import read_pdf
from indexes.types import Document
from infra.errors import SetupError
from infra.settings import ROOT, Policy, Settings
from models.base import policy_model

DOCUMENTS = 20_000
MANY = 100_000
_TIMES = 5
"""Repetitions of what is cheap."""
_SAMPLE = ROOT / "infra" / "sample" / "documents"


def ingest_rows(settings: Settings, documents: int = DOCUMENTS, many: int = MANY) -> list[BenchRow]:
    """Every row. Takes as long as embedding `documents` short texts does, and some minutes."""
    return [
        *incremental_rows(settings, documents),
        peak_row(settings, many),
        *chunking_rows(settings),
        *loading_rows(),
    ]


def incremental_rows(settings: Settings, documents: int) -> list[BenchRow]:
    """Seconds of later runs over `documents` files, from reading to the built index, as shares of the first run.

    First nothing is changed, then 1 % of the files, then every stage is run again over what is kept of single
    documents: what a change of one document takes at least.
    """
    spec = EmbedSpec(threads=settings.threads)
    embedder = SentenceTransformerEmbedder(spec, settings.policy.parent)
    embedder.query("loaded and warm")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        chain = Chain(home, _tokenizer(settings), ChunkSpec())
        write_documents(home / "documents", documents)

        def run() -> float:
            return _seconds(lambda: chain.index(embedder))

        first = run()
        unchanged = [run() for _ in range(_TIMES)]
        write_documents(home / "documents", documents, changed=0.01)
        changed = run()
        chain.forget()
        again = run()
    return [
        _share("unchanged_fraction", unchanged, first),
        _share("one_percent_fraction", [changed], first),
        _share("unchanged_fraction, every stage run again", [again], first),
        BenchRow(name=f"first run over {documents} documents", value=round(first, 1), unit="s"),
    ]


def peak_row(settings: Settings, documents: int) -> BenchRow:
    """Peak resident memory of a fresh process that ingests `documents` files for the first time."""
    with tempfile.TemporaryDirectory() as name:
        write_documents(Path(name) / "documents", documents)
        command = [sys.executable, "-m", "evaluation.benches.ingesting.peak", name, str(_tokenizer(settings))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"the ingest of {documents} documents failed: {done.stderr.strip()[-500:]}")
    return BenchRow(name="ingest_peak_mib", value=round(float(done.stdout.split()[-1]), 1), unit="MiB")


def chunking_rows(settings: Settings) -> list[BenchRow]:
    """MB/s of the recursive strategy beside RecursiveCharacterTextSplitter: articles, budget and tokenizer the same.

    Ours remembers how many tokens a word has. `chunking_ratio` is measured where the words are known, as in a corpus
    that is larger than its vocabulary; the other row begins with no word known, over these 0.8 MB. The peer counts by
    the bare tokenizer, which is faster than its own `from_huggingface_tokenizer`. Raises SetupError without the corpus.
    """
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from tokenizers import Tokenizer

    articles, folder = _articles(settings), _tokenizer(settings)
    spec = Policy(settings.policy).section("chunking", ChunkSpec).model_copy(update={"strategy": "recursive"})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=spec.max_tokens,
        chunk_overlap=spec.overlap_tokens,
        length_function=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
    )
    strategy, known = open_strategy(spec), token_counter(folder)

    def ours(count: TokenCounter) -> None:
        for article in articles:
            section = 0, len(article.text)
            pieces = strategy.pieces(article, section, count.spans(article.text, *section))
            assert [article.text[piece.start : piece.end] for piece in pieces]

    def theirs() -> None:
        for article in articles:
            assert splitter.split_text(article.text)

    size = sum(len(article.text.encode()) for article in articles) / 1e6
    peer = "langchain-text-splitters"
    return [
        _rates("chunking_ratio", "MB/s", peer, size, lambda: ours(known), theirs),
        _rates("chunking_ratio, no word known", "MB/s", peer, size, lambda: ours(token_counter(folder)), theirs),
    ]


def loading_rows() -> list[BenchRow]:
    """Pages a second of the PDF and HTML readers beside the bare libraries, on the sample's files.

    `loading_ratio` is the lower of the two.
    """
    import pypdf
    import trafilatura

    pdfs = [path.read_bytes() for path in sorted(_SAMPLE.rglob("*.pdf"))]
    pages = [path.read_bytes() for path in sorted(_SAMPLE.rglob("*.html"))]

    def bare_pdf(data: bytes) -> list[str]:
        return [page.extract_text(extraction_mode="layout") for page in pypdf.PdfReader(io.BytesIO(data)).pages]

    rows = [
        _rates(
            "loading_ratio pdf", "pages/s", "pypdf, layout mode",
            sum(len(pypdf.PdfReader(io.BytesIO(data)).pages) for data in pdfs),
            lambda: [read_pdf(data) for data in pdfs], lambda: [bare_pdf(data) for data in pdfs],
        ),
        _rates(
            "loading_ratio html", "pages/s", "trafilatura", len(pages),
            lambda: [read_html(data) for data in pages], lambda: [trafilatura.extract(data) for data in pages],
        ),
    ]  # fmt: skip
    lower = min(rows, key=lambda row: row.ratio or 0)
    return [lower.model_copy(update={"name": "loading_ratio"}), *rows]


def _tokenizer(settings: Settings) -> Path:
    """The folder of the policy's model."""
    return policy_model(Policy(settings.policy))


def _articles(settings: Settings) -> list[Document]:
    """The articles of XQuAD and the passages of CLAPnq: 0.8 MB of English."""
    texts = ["\n\n".join(row["paragraphs"]) for row in _rows(settings, "xquad-en/documents.jsonl")]
    for name in ("clapnq/dev_answerable.jsonl", "clapnq/dev_unanswerable.jsonl"):
        texts += [passage["text"] for row in _rows(settings, name) for passage in row["passages"]]
    return [
        Document(id=str(number), title="", text=text, media="jsonl", digest="") for number, text in enumerate(texts)
    ]


def _rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    file = settings.corpora / name
    if not file.is_file():
        raise SetupError(f"{file}: the corpus is not there; set SLUICE_CORPORA to the folder that holds it")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begun = clock()
    call()
    return clock() - begun


def _share(name: str, seconds: Sequence[float], first: float) -> BenchRow:
    """Seconds as a share of the first run; the ends are the fastest and the slowest repetition."""
    shares = [value / first for value in seconds]
    low, high = (round(min(shares), 4), round(max(shares), 4)) if len(shares) > 1 else (None, None)
    return BenchRow(name=name, value=round(float(np.median(shares)), 4), unit="of the first run", low=low, high=high)


def _rates(
    name: str, unit: str, peer: str, amount: float, ours: Callable[[], object], theirs: Callable[[], object]
) -> BenchRow:
    """Amount a second of both and their ratio, over repetitions in turn; one before them warms both up.

    Seconds are of this process's own processor time, which a busy machine changes less.
    """
    clock = time.process_time
    pairs = np.array([[_seconds(ours, clock), _seconds(theirs, clock)] for _ in range(_TIMES + 1)])[1:]
    rates = amount / pairs
    ratio = ratio_interval(rates[:, 0], rates[:, 1], np.arange(_TIMES))
    return BenchRow(
        name=name,
        value=round(float(rates[:, 0].mean()), 3),
        unit=unit,
        peer=peer,
        peer_value=round(float(rates[:, 1].mean()), 3),
        ratio=round(ratio.mean, 3),
        low=round(ratio.low, 3),
        high=round(ratio.high, 3),
    )
