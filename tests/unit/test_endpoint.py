"""The endpoint embedder against a real HTTP server: batches, pace, waits, errors, and a server that dies."""

import email.utils
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexes.cache import EmbeddingCache
from indexes.embedder import EmbedSpec, embed_texts, open_embedder
from indexes.endpoint import MOST_CHARACTERS, EndpointEmbedder, EndpointSpec, asked_wait
from indexes.fake import HashingEmbedder
from infra.errors import InputError, SetupError, SluiceError, TryAgainError
from tests.environment import only
from tests.unit.embedding_server import Answer, EmbeddingServer, embedding_server

TEXTS = [f"Pump number {number} {'and more ' * (number % 3)}." for number in range(70)]
BUSY: Answer = (429, {}, {"error": {"message": "slow down"}})


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


class Waits(list[float]):
    """A sleep that only notes how long it was asked to."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def connect(server: EmbeddingServer, waits: Waits | None = None, **fields: Any) -> EndpointEmbedder:
    spec = EndpointSpec(url=server.url, **fields)
    return EndpointEmbedder(
        spec, "m", "passage: ", "query: ", batch_size=8, api_key="secret", sleep=Waits() if waits is None else waits
    )


def test_vectors_are_in_order_and_of_unit_length_and_texts_are_sent_by_length(server: EmbeddingServer) -> None:
    embedder = connect(server)
    vectors = embedder.passages(TEXTS)
    assert embedder.dimension == 64
    assert np.allclose(vectors, HashingEmbedder().passages([f"passage: {text}" for text in TEXTS]), atol=1e-6)
    assert np.allclose(embedder.query("Which pump?"), HashingEmbedder().query("query: Which pump?"), atol=1e-6)
    path, headers, body = server.requests[1]
    assert (path, headers["Authorization"], body["model"]) == ("/v1/embeddings", "Bearer secret", "m")
    batches = [body["input"] for _, _, body in server.requests[1:-1]]
    assert [len(batch) for batch in batches] == [8] * 8 + [6]
    lengths = [len(text) for batch in batches for text in batch]
    assert lengths == sorted(lengths)


def test_a_request_does_not_grow_beyond_what_servers_take(server: EmbeddingServer) -> None:
    embedder = connect(server)
    embedder.passages(["a" * (MOST_CHARACTERS // 2), "b" * (MOST_CHARACTERS // 3), "c" * (MOST_CHARACTERS * 2), "d"])
    assert [len(body["input"]) for _, _, body in server.requests[1:]] == [2, 1, 1]


@pytest.mark.parametrize("failure", [BUSY, (503, {}, {"detail": "starting"}), (0, {}, None)])
def test_what_may_pass_is_tried_again_after_growing_waits(server: EmbeddingServer, failure: Answer) -> None:
    waits = Waits()
    embedder = connect(server, waits)
    server.script.extend([failure] * 3)
    assert np.allclose(embedder.query("x"), HashingEmbedder().query("query: x"), atol=1e-6)
    assert len(waits) == 3
    assert all(0.5 * 2**number <= wait <= 2**number for number, wait in enumerate(waits))


def test_the_server_says_how_long_to_wait(server: EmbeddingServer) -> None:
    waits = Waits()
    embedder = connect(server, waits)
    server.script.append((429, {"Retry-After": "17"}, {}))
    embedder.query("x")
    assert waits == [17]
    server.script.append((429, {"Retry-After": "3600"}, {"error": "quota"}))
    with pytest.raises(TryAgainError, match="quota; given up after 1 of 6"):
        embedder.query("x")


def test_a_wait_is_seconds_or_a_date() -> None:
    assert asked_wait("2.5") == 2.5
    assert 50 < asked_wait(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert asked_wait(email.utils.formatdate(0, usegmt=True)) == asked_wait("soon") == asked_wait("") == 0


def test_what_stays_busy_is_given_up(server: EmbeddingServer) -> None:
    embedder = connect(server, attempts=3)
    server.script.extend([BUSY] * 4)
    with pytest.raises(TryAgainError, match="429 slow down; given up after 3 of 3 attempts"):
        embedder.passages(["x"])
    assert len(server.script) == 1


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), SetupError, "401 bad key; set SLUICE_EMBEDDING_API_KEY"),
        ((404, {}, {"error": {"message": "no model m"}}), InputError, "404 no model m"),
        ((200, {}, ["html"]), SetupError, "none of an embedding server"),
        ((200, {}, {"data": []}), SetupError, "0 vectors"),
        ((200, {}, {"data": [{"index": 1, "embedding": [1.0] * 64}]}), SetupError, "1 vectors"),
        ((200, {}, {"data": [{"index": 0, "embedding": [1.0] * 32}]}), SetupError, "32 numbers a vector and gave 64"),
        ((200, {}, {"data": [{"index": 0, "embedding": [0.0] * 64}]}), SetupError, "no direction"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(
    server: EmbeddingServer, answer: Answer, error: type[SluiceError], said: str
) -> None:
    waits = Waits()
    embedder = connect(server, waits)
    server.script.append(answer)
    with pytest.raises(error, match=said):
        embedder.query("x")
    assert waits == []


def test_requests_keep_their_pace(server: EmbeddingServer) -> None:
    waits = Waits()
    embedder = connect(server, waits, requests_per_minute=6)
    embedder.passages(TEXTS[:16])
    assert len(waits) == 2
    assert 0 < waits[0] <= 10 < waits[1] <= 20


def test_a_run_whose_server_dies_goes_on_where_it_was(server: EmbeddingServer, tmp_path: Path) -> None:
    cache, embedder = EmbeddingCache(tmp_path / "vectors"), connect(server, attempts=2)
    server.dies_after = len(server.requests) + 6
    with pytest.raises(TryAgainError):
        embed_texts(TEXTS, embedder, cache, at_once=16)
    server.dies_after = None
    before = len(server.requests)
    vectors, computed, total = embed_texts(TEXTS, embedder, cache, at_once=16)
    sent = [text for _, _, body in server.requests[before:] for text in body["input"]]
    assert (computed, total, len(sent)) == (22, 70, 22)
    assert np.allclose(vectors, HashingEmbedder().passages([f"passage: {text}" for text in TEXTS]), atol=1e-6)


def test_the_policy_names_the_server_and_the_environment_its_key(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with only(monkeypatch, EMBEDDING_API_KEY="from-outside"):
        spec = EmbedSpec.model_validate({"model": "text-embedder", "endpoint": {"url": server.url}})
        embedder = open_embedder(spec)
        other = open_embedder(spec.model_copy(update={"model": "another"}))
    assert isinstance(embedder, EndpointEmbedder)
    assert embedder.version != other.version
    _, headers, body = server.requests[0]
    assert (headers["Authorization"], body["model"]) == ("Bearer from-outside", "text-embedder")
    assert spec.at_once == 32
    assert spec.model_copy(update={"batch_size": 24}).at_once == 48
