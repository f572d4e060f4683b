"""One contract for every engine: answers, streams, refuses, switches adapters while it serves, drains, stops."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from evaluation.load import LoadSpec
from evaluation.loading.generator import measure_load
from evaluation.loading.prompts import plain
from infra.errors import InputError, SetupError, TryAgainError
from infra.processes import ProcessManager
from infra.settings import Settings
from models.answering.chat import Chat, ClientTool, Talk
from models.answering.fake import SPEC as SPEC_OF_ANSWERS
from models.answering.fake import fake_pipeline
from models.answering.pipeline import ChatSpec
from models.serving.control import drain, load_adapter, requests_in_engine, served_models, unload_adapter
from models.serving.engine import OpenAIEngine
from models.serving.engine_options import SpeculationSpec
from models.serving.local import local_process
from models.serving.vllm import EngineSpec, vllm_build, vllm_process
from models.types import Answer, Message, Sampling

ASK = [Message(role="system", content="Answer."), Message(role="user", content="Which river feeds the reservoir?")]
SPEC = EngineSpec(max_model_len=1024, kv_cache_gib=0.0625, max_num_seqs=8, drain_s=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.engine)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessManager]:
    manager = ProcessManager(tmp_path_factory.mktemp("home"))
    yield manager
    manager.stop_all()


@pytest.fixture(scope="module")
def url(kind: str, manager: ProcessManager, tiny_model: Path) -> str:
    """Address of a running engine of this kind."""
    settings = Settings()
    if kind == "vllm" and not vllm_build(settings):
        pytest.skip("no vLLM in the engine environment")
    build = vllm_process if kind == "vllm" else local_process
    port = free_port()
    manager.start(build(SPEC, tiny_model, port, settings, name=f"engine-{kind}"))
    return f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(url, 60)
    yield engine
    await engine.close()


async def test_answer_has_text_counts_and_times(engine: OpenAIEngine) -> None:
    completion = await engine.complete("base", ASK, Sampling(12))
    assert completion.finish_reason == "length"
    assert completion.completion_tokens == 12
    assert completion.prompt_tokens == len("Answer.") + len("Which river feeds the reservoir?") + 3
    assert 0 < completion.first_token_s <= completion.total_s
    assert await engine.complete("base", ASK, Sampling(12)) == completion.model_copy(
        update={"first_token_s": pytest.approx(0, abs=60), "total_s": pytest.approx(0, abs=60)}
    )


async def test_stream_is_the_answer_in_pieces(engine: OpenAIEngine) -> None:
    pieces = [piece.text async for piece in engine.pieces("base", ASK, Sampling(12))]
    assert len(pieces) > 1
    assert "".join(pieces) == (await engine.complete("base", ASK, Sampling(12))).text


async def test_many_requests_at_once_answer_as_one(engine: OpenAIEngine) -> None:
    asks = [[Message(role="user", content="x" * (5 + 9 * number))] for number in range(6)]
    alone = [await engine.complete("base", ask, Sampling(3)) for ask in asks]
    together = await asyncio.gather(*(engine.complete("base", ask, Sampling(3)) for ask in asks))
    assert [answer.text for answer in together] == [answer.text for answer in alone]


async def test_unknown_model_and_too_long_prompt_are_the_callers_fault(engine: OpenAIEngine) -> None:
    with pytest.raises(InputError, match="nobody"):
        await engine.complete("nobody", ASK, Sampling(4))
    with pytest.raises(InputError, match="1024"):
        await engine.complete("base", [Message(role="user", content="x" * 2000)], Sampling(4))
    assert await engine.ready()


async def test_a_call_of_a_tool_is_held_to_its_schema(engine: OpenAIEngine, kind: str) -> None:
    """The model is random: all that makes a call of what it writes is the constraint."""
    schema = {
        "type": "object",
        "properties": {"meter": {"enum": ["gas", "water"]}, "urgent": {"type": "boolean"}},
        "required": ["meter", "urgent"],
        "additionalProperties": False,
    }
    talk = Talk(
        (Message(role="user", content="Read it"),),
        "Read it",
        tools=(ClientTool("read", "Reads", schema),),
        must_call=True,
    )
    pipeline = fake_pipeline(
        engine, [], spec=SPEC_OF_ANSWERS.model_copy(update={"chat": ChatSpec(max_tokens=200, max_chars=100)})
    )
    pipeline.model = "base"
    stream = Chat(pipeline).stream(talk, frozenset({"public"}))
    if kind == "transformers":
        with pytest.raises(InputError, match="cannot constrain"):
            await anext(stream)
        return
    (call,) = [event for event in [event async for event in stream] if isinstance(event, Answer)][-1].tools
    assert (call.name, call.outcome, set(call.arguments)) == ("read", "returned", {"meter", "urgent"})
    assert call.arguments["meter"] in ("gas", "water")


async def test_adapters_come_and_go_while_serving(
    engine: OpenAIEngine, url: str, tiny_adapters: dict[int, Path]
) -> None:
    before = await engine.complete("base", ASK, Sampling(8))
    for rank in (8, 16):
        load_adapter(url, f"adapter-{rank}", tiny_adapters[rank])
        load_adapter(url, f"adapter-{rank}", tiny_adapters[rank])
    assert served_models(url) == ["base", "adapter-8", "adapter-16"]
    answers = await asyncio.gather(
        *(engine.complete(model, ASK, Sampling(8)) for model in ("base", "adapter-8", "adapter-16"))
    )
    assert len({answer.text for answer in answers}) == 3
    assert answers[0].text == before.text
    for rank in (8, 16):
        unload_adapter(url, f"adapter-{rank}")
        unload_adapter(url, f"adapter-{rank}")
    with pytest.raises(InputError):
        await engine.complete("adapter-8", ASK, Sampling(4))
    assert (await engine.complete("base", ASK, Sampling(8))).text == before.text


def test_folder_that_is_no_adapter_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such model folder"):
        load_adapter(url, "ghost", tmp_path / "ghost")
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="safetensors"):
        load_adapter(url, "ghost", tmp_path)
    assert served_models(url) == ["base"]


async def test_load_run_measures_and_leaves_the_warm_up_out(url: str) -> None:
    prompts = plain([ASK, [Message(role="user", content="Who reads the meters?")]])
    spec = LoadSpec(requests=9, warmup=2, concurrency=3, max_tokens=6)
    closed = await measure_load(url, "base", prompts, spec)
    assert (len(closed.timings), closed.warmup_excluded, closed.errors) == (9, 2, {})
    assert closed.ttft_ms is not None and closed.e2e_ms is not None and closed.tpot_ms is not None
    assert 0 < closed.ttft_ms.p50 <= closed.e2e_ms.p50 <= closed.e2e_ms.p95 <= closed.e2e_ms.p99
    assert closed.output_tokens_per_s == pytest.approx(9 * 6 / closed.seconds)
    spec = LoadSpec(mode="open", requests=6, warmup=0, rate_per_s=50, max_tokens=4)
    opened = await measure_load(url, "base", prompts, spec)
    assert [timing.completion_tokens for timing in opened.timings] == [4] * 6
    wrong = await measure_load(url, "nobody", prompts, LoadSpec(requests=2, warmup=0, max_tokens=4))
    assert wrong.e2e_ms is None
    assert sum(wrong.errors.values()) == 2


async def test_drain_waits_for_the_requests_in_flight(engine: OpenAIEngine, url: str, kind: str) -> None:
    undisturbed = await engine.complete("base", ASK, Sampling(400))
    streams = [engine.pieces("base", ASK, Sampling(400)) for _ in range(8)]  # one alone may end before it is counted
    await asyncio.gather(*(anext(stream) for stream in streams))
    if kind == "vllm":  # the other engine shares its interpreter with the model, and may answer only once it is done
        assert 1 <= requests_in_engine(url) <= len(streams)
        assert not await asyncio.to_thread(drain, url, 0)
    reading = [asyncio.create_task(_rest(stream)) for stream in streams]
    assert await asyncio.to_thread(drain, url, 60)
    assert requests_in_engine(url) == 0
    assert {await one for one in reading} == {undisturbed.completion_tokens}


async def test_stop_lets_the_request_in_flight_end(engine: OpenAIEngine, kind: str, manager: ProcessManager) -> None:
    undisturbed = await engine.complete("base", ASK, Sampling(200))
    stream = engine.pieces("base", ASK, Sampling(200))
    await anext(stream)
    begin = time.monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(manager.stop, f"engine-{kind}"))
    assert await _rest(stream) == undisturbed.completion_tokens
    assert await stopping
    assert time.monotonic() - begin < SPEC.drain_s
    with pytest.raises(TryAgainError):
        await engine.complete("base", ASK, Sampling(4))
    assert not await engine.ready()


async def _rest(stream: AsyncIterator[object]) -> int:
    """Read a stream to its end; the completion tokens that its last event reports."""
    tokens = 0
    async for piece in stream:
        tokens = getattr(piece, "completion_tokens", 0) or tokens
    return tokens


@pytest.mark.engine
async def test_speculation_writes_the_same_text(manager: ProcessManager, tiny_model: Path) -> None:
    settings = Settings()
    if not vllm_build(settings):
        pytest.skip("no vLLM in the engine environment")
    guessing = SpeculationSpec(method="ngram", tokens=3, lookup_max=3)
    plain = SPEC.model_copy(update={"lora": None})
    texts = []
    for spec in (plain, plain.model_copy(update={"speculation": guessing})):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        manager.start(vllm_process(spec, tiny_model, port, settings, name="engine-guessing"))
        engine = OpenAIEngine(url, 60)
        asks = [[Message(role="user", content=text)] for text in ("one two one two one two one", "x" * 40, "A b C d")]
        texts.append([(await engine.complete("base", ask, Sampling(60))).text for ask in asks])
        page = (await asyncio.to_thread(httpx.get, f"{url}/metrics", trust_env=False)).text
        await engine.close()
        manager.stop("engine-guessing")
    assert texts[0] == texts[1]
    drafted = [line for line in page.splitlines() if line.startswith("vllm:spec_decode_num_draft_tokens_total")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in drafted) > 0
