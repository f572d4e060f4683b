"""The one thread that writes traces: off the request path, in batches, redacted, flushed when the gateway stops."""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache

from infra.errors import SluiceError, TryAgainError
from infra.records import Records, Trace
from models.answering.guards.outputs import is_unsafe
from models.serving.asks import Ask
from models.serving.traffic import Assignment
from models.types import Answer

LOG = logging.getLogger("sluice.gateway")
BATCH = 200
RETRY_S = 0.5
Redact = Callable[[str], str]


def to_trace(answer: Answer, assignment: Assignment, asked: Ask, created: float) -> Trace:
    """The record of one answer, not redacted yet. `created` in seconds since the epoch."""
    return Trace(
        trace_id=answer.trace_id,
        created=created,
        release=answer.release,
        arm=assignment.arm,
        rollout=assignment.rollout,
        session=asked.session_digest,
        request_key=_kept_key(answer, asked),
        body_digest=asked.body_digest,
        question=answer.question,
        answer=answer.answer,
        refused=answer.refused,
        unsafe=is_unsafe(answer.guards),
        latency_ms=answer.latency_ms,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cached_tokens=answer.cached_tokens,
        error=answer.error,
        guards=[event.model_dump() for event in answer.guards],
        spans=[span.model_dump() for span in answer.spans],
        passages=[passage.model_dump() for passage in answer.passages],
        citations=[citation.number for citation in answer.citations],
        retrieved=list(answer.retrieved),
        tenant=asked.caller.tenant,
        caller=asked.caller.digest[:16],
        path=answer.path,
        cost=answer.cost,
        engine=answer.engine,
        cache=answer.cache,
        tools=[call.model_dump() for call in answer.tools],
    )


def _kept_key(answer: Answer, asked: Ask) -> str | None:
    """A caller that sends a request again shall not get the failure of the first time."""
    return None if answer.error and asked.body_digest else asked.request_key or None


class TraceWriter:
    """Takes traces from the event loop and stores them in the order they came."""

    def __init__(self, records: Records, redact: Redact, capacity: int) -> None:
        self._records = records
        self._redact = lru_cache(maxsize=4096)(redact)  # the same passages come again and again
        self._queue: queue.Queue[Trace | None] = queue.Queue(capacity)
        self._waiting: dict[str, Future[None]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trace-writer", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Traces that are not stored yet."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether traces are still being written."""
        return self._thread.is_alive()

    def submit(self, trace: Trace) -> bool:
        """Take a trace without waiting; False, and the trace is lost, when the queue is full."""
        self._waiting[trace.trace_id] = Future()
        try:
            self._queue.put_nowait(trace)
        except queue.Full:
            self._waiting.pop(trace.trace_id).set_exception(TryAgainError("the queue of traces is full"))
            return False
        return True

    def stored(self, trace_id: str) -> Future[None] | None:
        """Resolves when this trace is in the database; None when nothing of that name is on its way."""
        return self._waiting.get(trace_id)

    def close(self) -> None:
        """Store what is left, then end. While the database is away one last attempt is made."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            ended = None in batch
            self._store([trace for trace in batch if trace is not None])

    def _store(self, traces: list[Trace]) -> None:
        for trace in traces:
            self._clean(trace)
        failure = self._write(traces)
        for trace in traces:
            future = self._waiting.pop(trace.trace_id)
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

    def _write(self, traces: list[Trace]) -> SluiceError | None:
        """Store a batch, waiting for a busy database as long as the gateway runs."""
        while True:
            last = self._stopping.is_set()
            try:
                self._records.add_traces(traces)
            except TryAgainError as error:
                LOG.warning("%d traces wait: %s", len(traces), error)
                if last:
                    return error
                self._stopping.wait(RETRY_S)
            except SluiceError as error:
                LOG.error("%d traces are lost: %s", len(traces), error)
                return error
            else:
                return None

    def _clean(self, trace: Trace) -> None:
        """Take personal data out of every text of the trace."""
        trace.question, trace.answer = self._redact(trace.question), self._redact(trace.answer)
        trace.error = self._redact(trace.error)
        for passage in trace.passages:
            passage["text"], passage["title"] = self._redact(passage["text"]), self._redact(passage["title"])
