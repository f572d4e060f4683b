"""Writes traces off the request path: redacted, safe on disk within a moment, then in the records, in their order.

Two threads. The first takes personal data out and appends to the spool, many traces at a time; the second moves what
the spool holds into the records and waits for a database that is away. What a killed gateway leaves in the spool the
next one stores: a trace that was stored already is known by its id.
"""

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import orjson

from infra.errors import SluiceError, TryAgainError
from infra.records import Records
from infra.spool import Spool
from models.answering.guards.outputs import is_unsafe
from models.serving.asks import Ask
from models.serving.traffic import Assignment
from models.types import Answer

LOG = logging.getLogger("sluice.gateway")
BATCH = 200
LINGER_S = 0.1
"""How long the first trace of a batch waits for others: a batch of one costs five times as much a trace as one of ten.
Somebody who waits for a trace ends it."""
STORE_LINGER_S = 0.5
"""How long traces that are safe wait for others on the way to the records: fifty at once cost a third a trace of what
ten do. Somebody who waits for a trace ends it."""
RETRY_S = 0.5
Redact = Callable[[str], str]
Row = dict[str, Any]
"""A trace by the columns of the records; their mapped class costs five times as much to make."""
Lost = Callable[[int], None]
"""Called with the number of traces that could not be kept."""


def to_row(answer: Answer, assignment: Assignment, asked: Ask, created: float) -> Row:
    """The record of one answer, not redacted yet. `created` in seconds since the epoch."""
    return {
        "trace_id": answer.trace_id,
        "created": created,
        "release": answer.release,
        "arm": assignment.arm,
        "rollout": assignment.rollout,
        "session": asked.session_digest,
        "request_key": _kept_key(answer, asked),
        "body_digest": asked.body_digest,
        "question": answer.question,
        "answer": answer.answer,
        "refused": answer.refused,
        "unsafe": is_unsafe(answer.guards),
        "latency_ms": answer.latency_ms,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cached_tokens": answer.cached_tokens,
        "error": answer.error,
        "guards": [event.model_dump() for event in answer.guards],
        "spans": [span.model_dump() for span in answer.spans],
        "passages": [passage.model_dump() for passage in answer.passages],
        "citations": [citation.number for citation in answer.citations],
        "retrieved": list(answer.retrieved),
        "tenant": asked.caller.tenant,
        "caller": asked.caller.digest[:16],
        "path": answer.path,
        "cost": answer.cost,
        "engine": answer.engine,
        "cache": answer.cache,
        "tools": [call.model_dump() for call in answer.tools],
        "finish_reason": answer.finish_reason,
        "urgent": bool(answer.error or answer.guards) or assignment.arm != "production",
        "exported": False,
        "left_out": False,
    }


def _ignore(_: int) -> None:
    """For writers whose losses nobody counts."""


def _kept_key(answer: Answer, asked: Ask) -> str | None:
    """A caller that sends a request again shall not get the failure of the first time."""
    return None if answer.error and asked.body_digest else asked.request_key or None


class TraceWriter:
    """Takes traces from the event loop and stores them in the order they came."""

    def __init__(
        self, records: Records, redact: Redact, capacity: int, spool: Spool | None = None, lost: Lost = _ignore
    ) -> None:
        """Without a spool traces go through a temporary one: none outlives the process."""
        self._records = records
        self._redact = redact
        self._spool = spool or Spool.temporary()
        self._lost = lost
        self._queue: queue.Queue[Row | None] = queue.Queue(capacity)
        self._waiting: dict[str, Future[None]] = {}
        self._safe: set[str] = set()
        """Those of the waiting that are in the spool."""
        self._lock = threading.Lock()
        """Of the two, between the threads."""
        self._wanted: set[str] = set()
        """Those of the waiting that somebody waits for."""
        self._hurry_to_spool = threading.Event()
        self._hurry_to_store = threading.Event()
        self._spooled = threading.Semaphore(0)
        self._all_spooled = threading.Event()
        self._stopping = threading.Event()
        self._in_hand = 0
        """Traces of the batch that is on its way to the spool."""
        self._away = False
        """Whether the database did not answer last time."""
        self.is_behind = self._spool.waiting > 0
        """Whether traces of a time in which the database was away, or of an earlier process, are still on their way."""
        self._threads = [
            threading.Thread(target=target, name=f"trace-{target.__name__.strip('_')}", daemon=True)
            for target in (self._spooling, self._storing)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def backlog(self) -> int:
        """Traces that are not in the records yet."""
        return self._queue.qsize() + self._in_hand + self._spool.waiting

    @property
    def alive(self) -> bool:
        """Whether traces are still being written."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, trace: Row) -> bool:
        """Take a trace without waiting; False, and the trace is lost, when the queue is full."""
        self._waiting[trace["trace_id"]] = Future()
        try:
            self._queue.put_nowait(trace)
        except queue.Full:
            self._give_up([trace["trace_id"]], TryAgainError("the queue of traces is full"))
            return False
        return True

    def stored(self, trace_id: str) -> Future[None] | None:
        """Resolves when this trace is in the database; None when nothing of that name is on its way.

        It fails with TryAgainError when the database is away: the trace is safe in the spool then and comes later.
        """
        future = self._waiting.get(trace_id)
        if future is not None:
            self._wanted.add(trace_id)
            if trace_id not in self._waiting:  # it was stored in between
                self._wanted.discard(trace_id)
            self._hurry_to_spool.set()
            self._hurry_to_store.set()
        return future

    def close(self) -> None:
        """Make safe what is left, then end. While the database is away one last attempt is made."""
        self._stopping.set()
        self._hurry_to_spool.set()
        self._hurry_to_store.set()
        self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._spool.close()

    # The first thread: from the queue to the spool

    def _spooling(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            self._in_hand = 1
            if batch[0] is not None and not self._stopping.is_set():
                self._hurry_to_spool.wait(LINGER_S)
                self._hurry_to_spool.clear()
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            ended = None in batch
            traces = [trace for trace in batch if trace is not None]
            self._in_hand = len(traces)
            self._keep(traces)
            self._in_hand = 0
        self._all_spooled.set()
        self._spooled.release()

    def _keep(self, traces: list[Row]) -> None:
        taken, failure = 0, SluiceError("the trace could not be written down")
        try:
            for trace in traces:
                self._clean(trace)
            taken = self._spool.append([_line(trace) for trace in traces])
            failure = TryAgainError("the spool of traces is full")
        except SluiceError as error:
            failure = error
        except Exception:
            LOG.exception("a fault of the writer: the thread goes on, for it may not stop all others")
        with self._lock:
            self._safe.update(trace["trace_id"] for trace in traces[:taken] if trace["trace_id"] in self._waiting)
        refused = [trace["trace_id"] for trace in traces[taken:]]
        if refused:
            LOG.error("%d traces are lost: %s", len(refused), failure)
            self._lost(len(refused))
            self._give_up(refused, failure)
        self._spooled.release()

    def _clean(self, trace: Row) -> None:
        """Take personal data, and what PostgreSQL's texts cannot hold, out of every text of the trace."""
        for name in ("question", "answer", "error"):
            trace[name] = self._text(trace[name])
        for passage in trace["passages"]:
            passage["text"], passage["title"] = self._text(passage["text"]), self._text(passage["title"])
        for call in trace["tools"]:
            call["arguments"] = {name: self._text(str(value)) for name, value in call["arguments"].items()}
            call["detail"] = self._text(call["detail"])

    def _text(self, text: str) -> str:
        return self._redact(text).replace("\0", "")

    # The second thread: from the spool to the records

    def _storing(self) -> None:
        while True:
            lines = self._spool.peek(BATCH)
            if not lines:
                self.is_behind = False
                if self._all_spooled.is_set():
                    return
                self._spooled.acquire()
                self._linger()
                continue
            last = self._all_spooled.is_set()
            if self._store(lines):
                self._spool.take(lines)
            elif last:
                LOG.warning("%d traces stay in the spool for the next start", self._spool.waiting)
                return
            else:
                self._stopping.wait(RETRY_S)

    def _linger(self) -> None:
        """Let traces come together, unless somebody waits for one."""
        if not self._wanted and not self._stopping.is_set():
            self._hurry_to_store.wait(STORE_LINGER_S)
            self._hurry_to_store.clear()

    def _store(self, lines: Sequence[bytes]) -> bool:
        """Move lines into the records; False when the database is away and they must come again."""
        rows = [orjson.loads(line) for line in lines]
        try:
            self._records.add_trace_rows(rows)
        except TryAgainError as error:
            self._say_away(error)
            with self._lock:
                safe, self._safe = self._safe, set()
            self._give_up(safe, error)
            return False
        except SluiceError as error:
            if len(lines) > 1:  # one of them is at fault
                return all(self._store([line]) for line in lines)
            LOG.error("a trace is lost: %s", error)
            self._lost(1)
            self._give_up([rows[0]["trace_id"]], error)
            return True
        self._away = False
        with self._lock:
            ids = [row["trace_id"] for row in rows]
            self._safe.difference_update(ids)
            ended = [self._waiting.pop(trace_id, None) for trace_id in ids]
        self._wanted.difference_update(ids)
        for future in ended:
            if future is not None:
                future.set_result(None)
        return True

    def _say_away(self, error: SluiceError) -> None:
        if not self._away:
            LOG.warning("traces wait in the spool: %s", error)
        self._away = self.is_behind = True

    def _give_up(self, trace_ids: Iterable[str], error: SluiceError) -> None:
        """Nobody waits for these any more."""
        for trace_id in trace_ids:
            future = self._waiting.pop(trace_id, None)
            self._wanted.discard(trace_id)
            if future is not None:
                future.set_exception(error)


def _line(values: Row) -> bytes:
    """A trace as JSON; halves of characters, which a model may write, become question marks."""
    try:
        return orjson.dumps(values)
    except TypeError:
        return json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
