"""Text generation with transformers: one thread decodes batches of waiting requests, token by token."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from infra.errors import InputError, SetupError
from models.serving.control import adapter_kind, check_weights
from models.types import Message

INCOMPLETE = "\ufffd"
"""What a decoder shows for the first bytes of a character whose last bytes are in the next token."""


@dataclass(slots=True)
class Job:
    """One request being generated. `emit` is called from the generating thread with new text and the finish reason."""

    adapter: str
    prompt: list[int]
    max_tokens: int
    temperature: float
    emit: Callable[[str, str], None]
    output: list[int] = field(default_factory=list)
    shown: int = 0
    finished: bool = False
    cancelled: bool = False
    error: str = ""

    def text(self, tokenizer: Any, *, final: bool) -> str:
        """Text that was not emitted yet; a character that is still incomplete is kept back unless `final`."""
        whole = str(tokenizer.decode(self.output, skip_special_tokens=True))
        if whole.endswith(INCOMPLETE) and not final:
            return ""
        new = whole[self.shown :]
        self.shown = len(whole)
        return new


class Generator:
    """A causal language model in memory with its adapters. `submit` is thread-safe; batches run one after the other."""

    def __init__(self, folder: Path, base: str, *, dtype: str, max_model_len: int, max_batch: int) -> None:
        check_weights(folder, "*.safetensors")
        self.base = base
        self.max_model_len = max_model_len
        self.max_batch = max_batch
        self.adapters: dict[str, Path] = {}
        self.prefixes: dict[str, Any] = {}
        """Adapters of prefix tuning: the keys and values that stand before every prompt, a cache of one row each."""
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        loader: Any = AutoModelForCausalLM
        self.model: Any = loader.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model.eval()
        self._eos = self._end_tokens()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._weights = threading.Lock()
        self._running = 0
        self._thread = threading.Thread(target=self._work, name="generator")
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """(requests being generated, requests waiting)."""
        return self._running, self._waiting.qsize()

    def models(self) -> list[str]:
        """Names that can be asked for, the base first."""
        return [self.base, *self.adapters]

    def load_adapter(self, name: str, folder: Path) -> None:
        """Add a LoRA or prefix-tuning adapter. Raises InputError when its name is taken or it does not fit."""
        if name in self.models():
            raise InputError(f"adapter {name}: already loaded")
        check_weights(folder, "adapter_model.safetensors")
        with self._weights:
            try:
                if adapter_kind(folder) == "PREFIX_TUNING":
                    self.prefixes[name] = self._prefix(folder)
                elif isinstance(self.model, PeftModel):
                    self.model.load_adapter(folder, adapter_name=name)
                else:
                    self.model = PeftModel.from_pretrained(self.model, folder, adapter_name=name).eval()
            except (ValueError, RuntimeError) as error:
                raise InputError(f"adapter {name}: does not fit this model: {error}") from error
            self.adapters[name] = folder

    def unload_adapter(self, name: str) -> None:
        """Drop an adapter. Raises InputError when it is not loaded."""
        if name not in self.adapters:
            raise InputError(f"adapter {name}: not loaded")
        with self._weights:
            del self.adapters[name]
            if self.prefixes.pop(name, None) is not None:
                return
            if set(self.adapters) - set(self.prefixes):
                self.model.delete_adapter(name)
            else:
                self.model = self.model.unload()

    def encode(self, messages: Sequence[Message], max_tokens: int, model: str = "") -> list[int]:
        """Prompt tokens by the chat template.

        Raises: InputError when prompt, answer and the virtual tokens of adapter `model` exceed the context.
        """
        tokens: list[int] = self.tokenizer.apply_chat_template(
            [message.model_dump() for message in messages], add_generation_prompt=True, return_dict=False
        )
        virtual = self.prefixes[model].get_seq_length() if model in self.prefixes else 0
        if len(tokens) + virtual + max_tokens > self.max_model_len:
            raise InputError(f"prompt of {len(tokens)} and answer of {max_tokens} tokens exceed {self.max_model_len}")
        return tokens

    def _prefix(self, folder: Path) -> Any:
        """What prefix tuning has learnt, as a cache of one row; the model itself stays as it is."""
        plain = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        with torch.inference_mode():
            return PeftModel.from_pretrained(plain, folder).get_prompt(1)

    def submit(self, job: Job) -> None:
        """Queue a request. Raises InputError for a model that is not served."""
        if job.adapter not in self.models():
            raise InputError(f"the model `{job.adapter}` does not exist; served: {', '.join(self.models())}")
        self._waiting.put(job)

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _end_tokens(self) -> frozenset[int]:
        configured = self.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return frozenset(end for end in [*ends, self.tokenizer.eos_token_id] if end is not None)

    def _batches(self) -> Iterator[list[Job]]:
        """Groups of waiting requests for one adapter, in order of arrival, until the end mark."""
        held: list[Job] = []
        ended = False
        while held or not ended:
            if not held:
                first = self._waiting.get()
                if first is None:
                    return
                held.append(first)
            while not self._waiting.empty():
                job = self._waiting.get()
                ended = ended or job is None
                held += [job] if job is not None else []
            batch = [job for job in held if job.adapter == held[0].adapter][: self.max_batch]
            held = [job for job in held if all(job is not chosen for chosen in batch)]
            yield batch

    def _work(self) -> None:
        for batch in self._batches():
            self._running = len(batch)
            try:
                with self._weights, torch.inference_mode(), self._adapter(batch[0].adapter):
                    self._generate(batch)
            except RuntimeError as error:  # torch's own: out of memory, a shape the model cannot take
                for job in batch:
                    job.error = str(error)
                    self._finish(job, "error")
            self._running = 0

    def _adapter(self, name: str) -> AbstractContextManager[Any]:
        if not isinstance(self.model, PeftModel):
            return nullcontext()
        if name == self.base or name not in self.adapters or name in self.prefixes:
            disabled: AbstractContextManager[Any] = self.model.disable_adapter()
            return disabled
        self.model.set_adapter(name)
        return nullcontext()

    def _generate(self, batch: list[Job]) -> None:
        """Decode a left-padded batch until every row has ended, one forward pass a token."""
        longest = max(len(job.prompt) for job in batch)
        rows = [[0] * (longest - len(job.prompt)) + job.prompt for job in batch]
        masks = [[0] * (longest - len(job.prompt)) + [1] * len(job.prompt) for job in batch]
        tokens, mask = torch.tensor(rows), torch.tensor(masks)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = copy.deepcopy(self.prefixes.get(batch[0].adapter))
        if cache is not None:
            virtual = cache.get_seq_length()
            cache.batch_repeat_interleave(len(batch))
            mask = torch.cat([torch.ones(len(batch), virtual, dtype=mask.dtype), mask], dim=1)
            positions = positions + virtual
        while not all(job.finished for job in batch):
            step = self.model(
                input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache = step.past_key_values
            chosen = self._choose(step.logits[:, -1].float(), batch)
            for job, token in zip(batch, chosen.tolist(), strict=True):
                self._take(job, token)
            tokens = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            positions = positions[:, -1:] + 1

    def _choose(self, logits: torch.Tensor, batch: list[Job]) -> torch.Tensor:
        """Next token of each row: the likeliest at temperature 0, otherwise drawn."""
        chosen = logits.argmax(-1)
        for row, job in enumerate(batch):
            if job.temperature > 0:
                chosen[row] = torch.multinomial(torch.softmax(logits[row] / job.temperature, -1), 1)[0]
        return chosen

    def _take(self, job: Job, token: int) -> None:
        if job.finished:
            return
        if job.cancelled or token in self._eos:
            self._finish(job, "stop")
            return
        job.output.append(token)
        if len(job.output) >= job.max_tokens:
            self._finish(job, "length")
        elif text := job.text(self.tokenizer, final=False):
            job.emit(text, "")

    def _finish(self, job: Job, reason: str) -> None:
        if job.finished:
            return
        job.finished = True
        job.emit(job.text(self.tokenizer, final=True), reason)


def replies(generator: Generator, model: str, chats: Sequence[Sequence[Message]], max_tokens: int) -> list[str]:
    """Greedy answers of `model` (the base or an adapter) to chats, in their order.

    Raises: InputError for a prompt that is too long; SetupError when generating failed.
    """
    answers = ["" for _ in chats]
    done = threading.Semaphore(0)
    jobs = []

    def collect(place: int) -> Callable[[str, str], None]:
        def emit(text: str, finish: str) -> None:
            answers[place] += text
            if finish:
                done.release()

        return emit

    for place, chat in enumerate(chats):
        prompt = generator.encode(chat, max_tokens, model)
        jobs.append(Job(model, prompt, max_tokens, 0.0, collect(place)))
    for job in sorted(jobs, key=lambda job: len(job.prompt)):  # prompts of like length share a batch
        generator.submit(job)
    for _ in jobs:
        done.acquire()
    if failed := next((job.error for job in jobs if job.error), ""):
        raise SetupError(f"{model}: generating failed: {failed}")
    return [answer.strip() for answer in answers]
