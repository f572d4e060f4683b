"""From ranked passages to what the model reads: near-duplicates out, within the budget, strongest at the edges."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from indexes.types import Chunk
from infra.errors import SetupError
from infra.settings import Spec
from models.answering.evidence import compress
from models.answering.guards.injections import sentences

TokenCount = Callable[[str], int]
WORD = re.compile(r"\w+")
SHINGLE = 3


class ContextSpec(Spec):
    """How many passages the model reads, and in which order."""

    passages: int = Field(ge=1, le=50)
    """Most passages in the prompt."""
    token_budget: int = Field(ge=32)
    """Most tokens of the model's own tokenizer that all passages may take together."""
    near_duplicate: float = Field(ge=0, le=1)
    """Share of common three-word sequences (Jaccard) from which the weaker of two passages is left out; 1 keeps all
    but exact copies."""
    evidence_sentences: int = Field(0, ge=0, le=200)
    """Sentences and table lines that are kept of all passages together, those that say most of the question; 0 keeps
    passages whole."""
    title_weight: float = Field(0.6, ge=0, le=1)
    """What a word of the question counts for a sentence when only the passage's title has it."""
    order: Literal["best-first", "edges"] = "edges"
    """Best first, or strongest at both ends, where models read best."""


def token_counter(model: Path) -> TokenCount:
    """Counts tokens as the model of this folder does. Raises SetupError without a tokenizer.json."""
    from tokenizers import Tokenizer

    file = model / "tokenizer.json"
    if not file.is_file():
        raise SetupError(f"{model}: no tokenizer.json; store the model with its fast tokenizer")
    tokenizer = Tokenizer.from_file(str(file))

    @lru_cache(maxsize=8192)
    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


@lru_cache(maxsize=8192)
def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Sequences of three words of a text; a shorter text is one sequence."""
    words = WORD.findall(text.casefold())
    return frozenset(tuple(words[n : n + SHINGLE]) for n in range(max(1, len(words) - SHINGLE + 1)))


def similarity(left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]) -> float:
    """Jaccard similarity, 0 to 1."""
    return len(left & right) / len(left | right)


def without_near_duplicates(chunks: Sequence[Chunk], threshold: float) -> list[Chunk]:
    """Chunks, best first, that are not too similar to a better one."""
    kept: list[tuple[Chunk, frozenset[tuple[str, ...]]]] = []
    for chunk in chunks:
        mine = shingles(chunk.text)
        if all(similarity(mine, other) < threshold for _, other in kept):
            kept.append((chunk, mine))
    return [chunk for chunk, _ in kept]


def _cut(chunk: Chunk, budget: int, count: TokenCount) -> Chunk:
    """The first whole sentences of a chunk that fit into the budget (its first sentence at least)."""
    end = 0
    for _, stop in sentences(chunk.text):
        if end and count(f"{chunk.title}: {chunk.text[:stop]}") > budget:
            break
        end = stop
    return chunk.model_copy(update={"text": chunk.text[:end].rstrip()})


def within_budget(chunks: Sequence[Chunk], spec: ContextSpec, count: TokenCount) -> list[Chunk]:
    """The best chunks that fit: at most `passages`, together at most `token_budget`; the best one is cut if it must."""
    kept: list[Chunk] = []
    left = spec.token_budget
    for chunk in chunks:
        if len(kept) == spec.passages:
            break
        tokens = count(chunk.embedding_text)
        if tokens <= left:
            kept.append(chunk)
            left -= tokens
    return kept or [_cut(chunk, spec.token_budget, count) for chunk in chunks[:1]]


def at_the_edges(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Best first, second best last, and so on inwards: 1 3 5 … 6 4 2."""
    return [*chunks[::2], *reversed(chunks[1::2])]


def build_context(chunks: Sequence[Chunk], question: str, spec: ContextSpec, count: TokenCount) -> list[Chunk]:
    """Ranked chunks (best first) → those the model reads, cut to the evidence, in the order of the prompt."""
    kept = without_near_duplicates(chunks, spec.near_duplicate)
    if spec.evidence_sentences:
        kept = compress(kept[: spec.passages], question, spec.evidence_sentences, spec.title_weight)
    chosen = within_budget(kept, spec, count)
    return at_the_edges(chosen) if spec.order == "edges" else chosen
