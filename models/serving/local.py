"""The engine for machines without vLLM: transformers behind the same OpenAI protocol, as a process of its own."""

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from infra.errors import InputError, SetupError
from infra.processes import ProcessSpec
from infra.settings import Settings
from infra.store import canonical_json, code_version
from models.serving.control import check_weights
from models.serving.vllm import EngineSpec
from models.types import Message

Events = AsyncIterator[tuple[str, str]]
"""(new text, finish reason or empty)."""


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The part of the OpenAI chat request that this engine honours."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int = Field(128, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    response_format: dict[str, Any] | None = None


class AdapterRequest(BaseModel):
    """Body of the adapter endpoints."""

    lora_name: str
    lora_path: str = ""


def error_response(status: int, message: str) -> JSONResponse:
    """An error in the OpenAI form."""
    return JSONResponse({"error": {"message": message, "code": status}}, status)


class Server:
    """The routes over one generator (`models.serving.generation.Generator`)."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def app(self) -> FastAPI:
        """The ASGI application."""

        app = FastAPI(openapi_url=None)
        app.add_api_route("/health", self.health, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/load_lora_adapter", self.load, methods=["POST"], response_model=None)
        app.add_api_route("/v1/unload_lora_adapter", self.unload, methods=["POST"], response_model=None)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], response_model=None)
        app.add_exception_handler(InputError, self.refused)
        return app

    async def refused(self, _: Request, error: Exception) -> JSONResponse:
        """InputError → 400, or 404 for an unknown model."""
        return error_response(404 if "does not exist" in str(error) else 400, str(error))

    async def health(self) -> dict[str, str]:
        """200 once the weights are loaded (the server starts after that)."""
        return {"status": "ok"}

    async def metrics(self) -> PlainTextResponse:
        """The two gauges that draining needs, under the names that vLLM gives them."""
        running, waiting = self.generator.load
        return PlainTextResponse(f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n")

    async def models(self) -> dict[str, Any]:
        """Base and adapters."""
        data = [{"id": name, "object": "model", "owned_by": "sluice"} for name in self.generator.models()]
        return {"object": "list", "data": data}

    async def load(self, request: AdapterRequest) -> dict[str, str]:
        """Add an adapter while serving."""
        await asyncio.to_thread(self.generator.load_adapter, request.lora_name, Path(request.lora_path))
        return {"loaded": request.lora_name}

    async def unload(self, request: AdapterRequest) -> dict[str, str]:
        """Drop an adapter while serving."""
        await asyncio.to_thread(self.generator.unload_adapter, request.lora_name)
        return {"unloaded": request.lora_name}

    async def chat(self, request: ChatRequest) -> StreamingResponse | JSONResponse:
        """One chat completion, streamed or whole."""
        from models.serving.generation import Job

        if (request.response_format or {}).get("type", "text") != "text":
            raise InputError("response_format: this engine cannot constrain what is written; serve the model with vLLM")
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        job = Job(
            adapter=request.model,
            prompt=self.generator.encode(request.messages, request.max_tokens, request.model),
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            emit=lambda text, finish: _from_thread(loop, events, (text, finish)),
        )
        self.generator.submit(job)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": request.model}
        if request.stream:
            body = self._stream(job, events, head, usage=request.stream_options.include_usage)
            return StreamingResponse(body, media_type="text/event-stream")
        pieces = [piece async for piece in _events(job, events)]
        if job.error:
            return error_response(500, job.error)
        message = {"role": "assistant", "content": "".join(text for text, _ in pieces)}
        choice = {"index": 0, "message": message, "finish_reason": pieces[-1][1]}
        return JSONResponse(head | {"object": "chat.completion", "choices": [choice], "usage": _usage(job)})

    async def _stream(
        self, job: Any, events: asyncio.Queue[tuple[str, str]], head: dict[str, Any], *, usage: bool
    ) -> AsyncIterator[str]:
        head = head | {"object": "chat.completion.chunk"}
        async for text, finish in _events(job, events):
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish or None}
            if not job.error:
                yield f"data: {canonical_json(head | {'choices': [choice]})}\n\n"
        if job.error:
            yield f"data: {canonical_json({'error': {'message': job.error, 'code': 500}})}\n\n"
        elif usage:
            yield f"data: {canonical_json(head | {'choices': [], 'usage': _usage(job)})}\n\n"
        yield "data: [DONE]\n\n"


def _from_thread(
    loop: asyncio.AbstractEventLoop, events: asyncio.Queue[tuple[str, str]], event: tuple[str, str]
) -> None:
    """Hand an event over from the generating thread; a loop that has closed has no reader any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, event)


async def _events(job: Any, events: asyncio.Queue[tuple[str, str]]) -> Events:
    """Events of one job until its finish; a reader that goes away cancels the job."""
    try:
        finish = ""
        while not finish:
            text, finish = await events.get()
            yield text, finish
    finally:
        job.cancelled = True


def _usage(job: Any) -> dict[str, int]:
    prompt, output = len(job.prompt), len(job.output)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def local_process(
    spec: EngineSpec,
    model_folder: Path,
    port: int,
    settings: Settings,
    adapters: Mapping[str, Path] | None = None,
    *,
    name: str = "engine",
    model: str = "base",
) -> ProcessSpec:
    """The same as `vllm_process`, for the transformers engine. Raises: SetupError, InputError as there."""
    check_weights(model_folder, "*.safetensors")
    if spec.beyond_transformers:
        raise SetupError(
            f"engine.{spec.beyond_transformers[0]}: this is the transformers engine; serve with vLLM for it"
        )
    argv = [sys.executable, "-m", "models.serving.local", "--model", str(model_folder.resolve()), "--name", model]
    argv += ["--host", settings.host, "--port", str(port)]
    argv += ["--dtype", "bfloat16" if spec.dtype == "auto" else spec.dtype]
    argv += ["--max-model-len", str(spec.max_model_len), "--max-batch", str(spec.max_num_seqs)]
    for adapter, folder in sorted((adapters or {}).items()):
        argv += ["--adapter", f"{adapter}={folder.resolve()}"]
    return ProcessSpec(
        name=name,
        argv=tuple(argv),
        env=settings.quiet_environment() | {"HF_HUB_OFFLINE": "1"},
        port=port,
        ready_url=f"http://{settings.host}:{port}/health",
        ready_timeout_s=settings.engine_start_timeout_s,
        stop_grace_s=spec.drain_s + 10,
        port_setting="SLUICE_ENGINE_PORT",
        version=code_version("models/serving/local.py", "models/serving/generation.py"),
    )


def main() -> None:
    """Command line of the engine process."""
    parser = argparse.ArgumentParser(description="OpenAI-compatible server over transformers")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--name", default="base")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args()

    import uvicorn

    from models.serving.generation import Generator

    generator = Generator(
        options.model,
        options.name,
        dtype=options.dtype,
        max_model_len=options.max_model_len,
        max_batch=options.max_batch,
    )
    try:
        for pair in options.adapter:
            name, _, folder = pair.partition("=")
            generator.load_adapter(name, Path(folder))
        uvicorn.run(Server(generator).app(), host=options.host, port=options.port, log_level="warning")
    finally:
        generator.close()


if __name__ == "__main__":
    main()
