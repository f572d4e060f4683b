"""What may go out: the output guards of a release, put together for one answer at a time."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from models.answering.guards.leaks import PromptWatch, SystemPrompt, TokenWatch
from models.answering.guards.output_policy import Action
from models.answering.guards.personal import PersonalData
from models.answering.guards.personal_watch import Waiting, personal_watch
from models.answering.guards.policy import GuardPolicy
from models.answering.guards.readings import GroundedReading, PlainReading, Reading
from models.answering.guards.stream import StreamGuard, Watching
from models.answering.guards.toxicity import toxicity_watch
from models.answering.guards.watch import Watch
from models.prompts import Source
from models.types import GuardEvent

UNSAFE = frozenset({"personal-data", "leak", "system-prompt", "toxicity"})
"""Output guards that find harm; the others only stop a bad answer."""

system_prompt = lru_cache(maxsize=64)(SystemPrompt)


class OutputGuards:
    """The output guards of one release."""

    def __init__(self, policy: GuardPolicy, personal: PersonalData) -> None:
        self.policy = policy
        self._personal = personal
        self._waiting = Waiting(policy.personal_patterns)

    def grounded(
        self,
        passages: Sequence[Source],
        question: str,
        refusal: str,
        *,
        system: str = "",
        secrets: Sequence[str] = (),
        whole: bool = False,
    ) -> StreamGuard:
        """For one answer out of `passages`. `secrets` are tokens of this request that must not leave."""
        reading = GroundedReading(self.policy, passages, question, refusal)
        return self._guard(reading, refusal, system, secrets, whole)

    def plain(
        self,
        refusal: str,
        *,
        system: str = "",
        secrets: Sequence[str] = (),
        whole: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> StreamGuard:
        """For one answer without passages: nothing is cited, everything else is checked."""
        return self._guard(PlainReading(), refusal, system, secrets, whole, clock)

    def without_tokens(self, text: str) -> str:
        """A passage as it may be cited: planted tokens are hidden."""
        for token in self.policy.leak_tokens:
            text = text.replace(token, "<PLANTED_TOKEN>")
        return text

    def _guard(
        self,
        reading: Reading,
        refusal: str,
        system: str,
        secrets: Sequence[str],
        whole: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> StreamGuard:
        policy, output = self.policy, self.policy.output
        watching = [Watching(personal_watch(self._personal, self._waiting), blocks=policy.personal_data == "refuse")]
        if tokens := (*policy.leak_tokens, *secrets):
            watching.append(Watching(TokenWatch(tokens), blocks=True))
        if output.system_prompt_words is not None and system:
            prompt = PromptWatch(system_prompt(system), output.system_prompt_words)
            watching += _watching(output.system_prompt, prompt)
        watching += _watching(output.toxicity, toxicity_watch())
        return StreamGuard(policy, reading, watching, refusal, whole=whole, clock=clock)


def _watching(action: Action, watch: Watch) -> list[Watching]:
    return [] if action == "off" else [Watching(watch, blocks=action == "refuse")]


def is_unsafe(events: Sequence[GuardEvent]) -> bool:
    """Whether an output guard found harm: personal data, a planted token, the system prompt, toxic language."""
    return any(event.stage == "output" and event.guard in UNSAFE for event in events)
