"""Counts summed from words are those of the tokenizer, for every span of any text."""

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from indexes.chunkers.spec import ChunkSpec
from indexes.chunkers.text import chunk_document
from indexes.chunkers.tokens import TokenCounter, token_counter
from indexes.loaders.corpus import load_corpus
from indexes.loaders.spec import CorpusSpec
from indexes.types import Document
from indexes.weights import embedded_model
from infra.settings import ROOT, Policy
from tests.unit.recursive_reference import reference_spans

NAMES = ("starter", "minilm", "lines", "joining")
LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 and Qwen part words: the end of a line belongs to the full stop before it."""
TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.sampled_from([" ", "  ", "\n", "\n\n", " \n ", "\t", "\u00a0", "\x1c", "\x85", "\u3000", "\x00"]),
        st.sampled_from(["Pump", "12.5", "don't", "a b", "水道", "e\u0301", "[MASK]", "##x", "...", "\u200b"]),
    ),
    max_size=25,
).map("".join)


@lru_cache(maxsize=4)
def counter(name: str) -> TokenCounter:
    if name == "lines":
        tokenizer = Tokenizer(BPE())
        parting = Split(Regex(LINES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = Sequence(list(parting))
        trainer = BpeTrainer(vocab_size=500, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
        tokenizer.train_from_iterator(["Pumps run.\n\nPumps don't run 12.5 ...\n\n"] * 9, trainer)
        return TokenCounter(tokenizer)
    if name == "joining":
        vocabulary = {"[UNK]": 0, "a": 1, " ": 2, "b": 3, "a ": 4, "a b": 5}
        return TokenCounter(Tokenizer(BPE(vocabulary, [("a", " "), ("a ", "b")], unk_token="[UNK]")))
    return token_counter(ROOT / "models/starter/weights" if name == "starter" else embedded_model())


@lru_cache(maxsize=1)
def documents() -> list[Document]:
    return load_corpus(Policy(ROOT / "sluice.yaml").section("corpus", CorpusSpec), ROOT).documents


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(TEXT, st.data())
def test_counts_of_spans_are_those_of_the_tokenizer(name: str, text: str, data: st.DataObject) -> None:
    count = counter(name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    spans = count.spans(text, start, end)
    for _ in range(4):
        first = data.draw(st.integers(start, end))
        last = data.draw(st.integers(first, end))
        assert spans(first, last) == count(text[first:last]), (text[first:last], first, last)


def test_a_token_that_joins_words_is_counted_as_one() -> None:
    count = counter("joining")
    assert count("a b") == count.spans("b a b", 0, 5)(2, 5) == 1


@pytest.mark.parametrize(("name", "budget", "overlap"), [("starter", 110, 0), ("minilm", 60, 20), ("minilm", 500, 0)])
def test_the_sample_documents_are_cut_where_they_always_were(name: str, budget: int, overlap: int) -> None:
    count, spec = counter(name), ChunkSpec(max_tokens=budget, overlap_tokens=overlap)
    for document in documents()[::4]:
        found = [(chunk.start, chunk.end) for chunk in chunk_document(document, spec, count)]
        assert found == reference_spans(document, budget, overlap, count), document.id
