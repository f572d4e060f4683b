"""What every adapter of the embedder port must keep."""

from collections.abc import Iterator

import numpy as np
import pytest

from indexes.embedder import EmbedSpec, open_embedder
from indexes.endpoint import EndpointEmbedder, EndpointSpec
from indexes.fake import HashingEmbedder
from indexes.types import Embedder
from tests.unit.embedding_server import embedding_server

TEXTS = ["Pumps need oil.", "The standing charge is 6.40 euros a month.", "", "Pumps need oil."]


@pytest.fixture(params=["hashing", "minilm", "endpoint"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    if request.param == "endpoint":
        with embedding_server() as server:
            yield EndpointEmbedder(EndpointSpec(url=server.url), "m")
    else:
        yield HashingEmbedder() if request.param == "hashing" else open_embedder(EmbedSpec())


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: Embedder) -> None:
    vectors = embedder.passages(TEXTS)
    assert vectors.shape == (4, embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[3])
    assert np.array_equal(vectors[::-1], embedder.passages(TEXTS[::-1]))


def test_a_question_lies_nearest_to_the_text_that_answers_it(embedder: Embedder) -> None:
    question = embedder.query("How many euros is the standing charge a month?")
    assert question.shape == (embedder.dimension,)
    assert int(np.argmax(embedder.passages(TEXTS) @ question)) == 1
    assert embedder.version
