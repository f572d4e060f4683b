"""Embeddings for callers: OpenAI's client and form, the live release's encoder, bounds, tokens, traces, deadlines."""

import base64
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI

from indexes.fake import HashingEmbedder
from indexes.types import Vectors
from infra.cost import TokenPrices
from infra.records import Placement, Records
from models.answering.fake import POLICY, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.pipeline import Pipeline
from models.serving.embeddings import AT_ONCE
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.protocol import HttpSpec
from models.serving.runtime import Runtime
from tests.live_gateway import (
    CHUNKS,
    RELEASE,
    SPEC,
    USER,
    behind_socket,
    in_process,
    make_app,
    open_records,
    until_ready,
)

OPERATOR = {"authorization": "Bearer operator-key"}
TEXTS = ["The appeal period is 14 days.", "A garden of 200 square metres."]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = open_records(tmp_path)
    opened.add_key("operator-key", "operator", "operator", ["public"])
    yield opened
    opened.close()


async def test_the_openai_client_gets_the_vectors_of_the_releases_encoder(records: Records) -> None:
    async with (
        behind_socket(make_app(records), HttpSpec()) as port,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="user-key") as client,
    ):
        packed = await client.embeddings.create(model="sluice", input=TEXTS)
        plain = await client.embeddings.create(model="sluice", input=TEXTS, encoding_format="float")
        single = await client.embeddings.create(model="sluice", input=TEXTS[1])
    expected = HashingEmbedder().passages(TEXTS)
    np.testing.assert_array_equal(np.array([row.embedding for row in packed.data], np.float32), expected)
    np.testing.assert_array_equal(np.array([row.embedding for row in plain.data], np.float32), expected)
    np.testing.assert_array_equal(np.array(single.data[0].embedding, np.float32), expected[1])
    assert [row.index for row in packed.data] == [0, 1]
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 12
    rows = records.traces()
    assert [(row.path, row.prompt_tokens, row.question, row.error) for row in rows] == [
        ("embeddings", 12, "", ""), ("embeddings", 12, "", ""), ("embeddings", 6, "", ""),
    ]  # fmt: skip


async def test_packed_vectors_are_little_endian_floats(records: Records) -> None:
    body = {"input": TEXTS[0], "encoding_format": "base64", "input_type": "query", "dimensions": 64}
    async with in_process(make_app(records, prices=TokenPrices(prompt=1.0))) as client:
        reply = await client.post("/v1/embeddings", json=body, headers=USER)
    text = reply.json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), HashingEmbedder().query(TEXTS[0]))
    assert reply.headers["x-sluice-release"] == RELEASE
    row = records.trace(reply.headers["x-sluice-trace"])
    assert row is not None
    assert row.cost == pytest.approx(6e-6)
    assert (len(row.caller), row.tenant) == (16, "default")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "input"),
        ({"input": []}, 422, "input.constrained-str"),
        ({"input": [""]}, 422, "input"),
        ({"input": [[1, 2, 3]]}, 422, "input"),
        ({"input": ["x"] * 5}, 422, "input"),
        ({"input": "x", "dimensions": 3}, 422, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, 422, "encoding_format"),
        ({"input": "x", "model": "other"}, 404, "model"),
        ({"input": "x", "model": "b" * 64}, 404, "model"),
    ],
)
async def test_wrong_requests(records: Records, body: dict[str, Any], status: int, param: str) -> None:
    spec = SPEC.model_copy(update={"max_embedding_inputs": 4})
    async with in_process(make_app(records, spec=spec)) as client:
        reply = await client.post("/v1/embeddings", json=body, headers=USER)
    assert reply.status_code == status
    assert str(reply.json()["error"]["param"]).startswith(param.partition(".")[0])
    assert records.traces() == []


async def test_a_canary_embeds_nothing(records: Records) -> None:
    """Half of all users are in the canary, and all get the vectors of one encoder."""
    records.place("b" * 64, "http://127.0.0.1:1", "m")
    records.start_rollout(RELEASE, "b" * 64, "p", share=0.5)
    async with in_process(make_app(records)) as client:
        replies = [
            await client.post("/v1/embeddings", json={"input": "x", "user": f"u{number}"}, headers=USER)
            for number in range(12)
        ]
        named = await client.post("/v1/embeddings", json={"input": "x", "model": "b" * 64}, headers=OPERATOR)
    assert {reply.headers["x-sluice-release"] for reply in replies} == {RELEASE}
    assert named.headers["x-sluice-release"] == "b" * 64
    assert {row.rollout for row in records.traces(release=RELEASE)} == {""}


class HeldEmbedder(HashingEmbedder):
    """Waits in every step until it is let go; says when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def passages(self, texts: Sequence[str]) -> Vectors:
        """See Embedder."""
        self.asked.set()
        assert self.go.wait(30)
        return super().passages(texts)


async def test_a_deadline_ends_the_work_after_the_step_that_runs(records: Records) -> None:
    encoder = HeldEmbedder()

    def build(release: str, placement: Placement) -> Pipeline:
        made = fake_pipeline(FakeEngine("x"), CHUNKS, release=release)
        made.embedder = encoder
        return made

    app = create_app(records, Runtime(build), SPEC, personal_data(POLICY).redact)
    headers = USER | {"x-sluice-deadline-ms": "1000"}
    async with in_process(app) as client:
        await until_ready(client)
        reply = await client.post("/v1/embeddings", json={"input": ["x"] * 64}, headers=headers)
        encoder.go.set()
    assert (reply.status_code, encoder.asked.is_set()) == (504, True)
    assert encoder.embedded <= AT_ONCE
    assert [(row.path, row.error) for row in records.traces()] == [("embeddings", "timeout")]
