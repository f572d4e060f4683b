"""The output guards of one answer while it is written: text waits until nothing behind it can make it forbidden."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from models.answering.guards.policy import GuardPolicy, Verdict
from models.answering.guards.readings import Reading, output_event
from models.answering.guards.seen import Seen
from models.answering.guards.watch import Watch
from models.types import GuardEvent


class Watching:
    """A watch, and whether what it finds stops the answer."""

    def __init__(self, watch: Watch, *, blocks: bool) -> None:
        self.watch = watch
        self.blocks = blocks


class StreamGuard:
    """Takes a model's text and gives out what may leave; it serves one answer.

    `push` what the model wrote and send what comes back; once `blocked` is set nothing more leaves and the model can be
    stopped; `end` gives the verdict over the whole answer, whose text begins with all that was sent. With `whole`
    nothing leaves before the end, so an answer that a guard stops is never seen in part.
    """

    def __init__(
        self,
        policy: GuardPolicy,
        reading: Reading,
        watching: Sequence[Watching],
        refusal: str,
        *,
        whole: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._policy = policy
        self._reading = reading
        self._blocking = [one.watch for one in watching if one.blocks]
        self._flagging = [one.watch for one in watching if not one.blocks]
        self._refusal = refusal
        self._whole = whole
        self._clock = clock
        self._raw = ""
        self._seen = Seen()
        self._left = 0
        self._events: list[GuardEvent] = []
        self._arrivals: deque[tuple[int, float]] = deque()
        self.delays_ms: list[float] = []
        """For every piece that has left: the time from its arrival until then."""
        self.most_held = 0
        """Most characters of the model's text that waited at once."""
        self.busy_ms = 0.0
        """Time that the guards themselves took."""

    @property
    def text(self) -> str:
        """All that the model wrote so far."""
        return self._raw

    @property
    def sent(self) -> str:
        """All that has left so far."""
        return self._seen.text[: self._left]

    @property
    def blocked(self) -> GuardEvent | None:
        """What stopped the answer, if anything did."""
        return next((event for event in self._found() if event.action == "block"), None)

    def push(self, text: str) -> str:
        """Take text of the model; what may leave now."""
        begin = self._clock()
        self._raw += text
        if text:
            self._arrivals.append((len(self._raw), begin))
        if self._whole or self.blocked:
            return ""
        self._seen.add(self._reading.push(text))
        leaving = self._let_go(ended=False)
        self.most_held = max(self.most_held, len(self._raw) - self._reading.read(self._left))
        self.busy_ms += 1000 * (self._clock() - begin)
        return leaving

    def end(self) -> Verdict:
        """The verdict over all that was pushed. Text of it that was not sent may be sent now."""
        begin = self._clock()
        if not self.blocked:
            if self._whole:
                self._seen.add(self._reading.push(self._raw))
                self.most_held = len(self._raw)
            self._seen.add(self._reading.end())
            self._let_go(ended=True)
        for watch in self._flagging:
            if found := watch.look(self._seen, ended=True).found:
                self._events.append(output_event(watch.guard, False, found))
        self.busy_ms += 1000 * (self._clock() - begin)
        return self._verdict()

    def _verdict(self) -> Verdict:
        events = tuple(self._found())
        if self.blocked and self.sent:
            return Verdict(
                answer=self.sent, cited=self._reading.cited(self._left), refused=False, events=events, blocked=True,
                cut=True,
            )  # fmt: skip
        if self.blocked:
            text = self._policy.output.blocked_text or self._refusal
            return Verdict(answer=text, cited=(), refused=True, events=events, blocked=True)
        if self._reading.refused:
            return Verdict(answer=self._refusal, cited=(), refused=True)
        return Verdict(answer=self._seen.text, cited=self._reading.cited(), refused=False, events=events)

    def _found(self) -> list[GuardEvent]:
        return [*self._reading.events, *self._events]

    def _let_go(self, *, ended: bool) -> str:
        safe = len(self._seen.text)
        for watch in self._blocking:
            look = watch.look(self._seen, ended)
            safe = min(safe, look.safe)
            if look.found:
                self._events.append(output_event(watch.guard, True, look.found))
        if len(self._seen.text) > self._policy.max_answer_chars and (ended or self._length_blocks):
            detail = f"more than {self._policy.max_answer_chars} characters"
            self._events.append(output_event("length", self._length_blocks, detail))
        if self.blocked or safe <= self._left:
            return ""
        leaving = self._seen.text[self._left : safe]
        self._left = safe
        read = len(self._raw) if ended else self._reading.read(safe)
        while self._arrivals and self._arrivals[0][0] <= read:
            self.delays_ms.append(1000 * (self._clock() - self._arrivals.popleft()[1]))
        return leaving

    @property
    def _length_blocks(self) -> bool:
        return self._policy.output.length == "refuse"
