"""Prompts: a versioned text with checked variables, how it becomes messages, and how an answer is read back."""

import re
from collections.abc import Sequence
from functools import lru_cache
from string import Formatter
from typing import Literal, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from infra.errors import InputError
from infra.store import ArtifactRef, ArtifactStore, canonical_json, write_atomic
from models.marks import above_mark, inert
from models.types import Message

KIND = "prompt"
FILE = "prompt.json"

Variable = Literal["passages", "question", "claim"]

MARK = re.compile(r"\s*\[(\d{1,3})\]")
OPEN_MARK = re.compile(r"\s*(?:\[\d{0,3})?$")
PART = re.compile(r";\s*")
CANARY = "{canary}"
"""Where a system text has this, a token is planted: an answer that shows it has shown the prompt."""


class Source(Protocol):
    """What a numbered passage is made of: a Chunk, a Citation or anything with these two texts."""

    @property
    def title(self) -> str: ...

    @property
    def text(self) -> str: ...


def _check_template(field: str, template: str, wanted: set[Variable]) -> None:
    """Raise ValueError unless the template has exactly these plain variables: no attribute, format or conversion."""
    found: set[str] = set()
    for _, name, form, conversion in Formatter().parse(template):
        if name is None:
            continue
        if name not in wanted or form or conversion:
            raise ValueError(f"{field}: unknown variable {{{name}}}; allowed are {', '.join(sorted(wanted))}")
        found.add(name)
    missing = sorted(wanted - found)
    if missing:
        raise ValueError(f"{field}: the variable {{{missing[0]}}} is missing")


class Prompt(BaseModel):
    """One version of the prompt: part of a release, stored as an artifact folder with one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    version: str
    system: str
    user: str
    """Template of the user message; its variables are exactly `{passages}` and `{question}`."""
    support: str
    """Template of the support judgement; its variables are exactly `{passages}` and `{claim}`."""
    refusal: str
    """What the model says, and the guards give, when the passages hold no answer."""

    @model_validator(mode="after")
    def _variables_are_known(self) -> Self:
        _check_template("user", self.user, {"passages", "question"})
        _check_template("support", self.support, {"passages", "claim"})
        return self


DEFAULT = Prompt(
    id="answer-from-passages",
    version="1",
    system="Answer from the passages. Cite the passage number.",
    user="{passages}\n\nQuestion: {question}",
    support="{passages}\n\nClaim: {claim}\nDo the passages support the claim? Answer yes or no.",
    refusal="The passages do not say.",
)


def _fold(text: str) -> str:
    """All white space runs as one space: a passage is one line. Nothing in it is a mark or a token of a template."""
    return inert(" ".join(text.split()))


def numbered(passages: Sequence[Source]) -> str:
    """The passages as the prompt shows them: `[1] Title: text`, one a line, numbered from 1."""
    lines = []
    for number, passage in enumerate(passages, 1):
        title, text = _fold(passage.title), _fold(passage.text)
        lines.append(f"[{number}] {title}: {text}" if title else f"[{number}] {text}")
    return "\n".join(lines)


class Shown(NamedTuple):
    """A passage as it stands in a prompt: one line, in which the title cannot be told from the text any more."""

    text: str
    title: str = ""


def passages_in(content: str) -> list[Shown]:
    """The passages that a rendered user message shows, in their order; see `numbered`."""
    found: list[Shown] = []
    for line in content.splitlines():
        begin = f"[{len(found) + 1}] "
        if line.startswith(begin):
            found.append(Shown(line.removeprefix(begin)))
    return found


def planted(prompt: Prompt, token: str) -> Prompt:
    """The prompt with a token at its CANARY; the same prompt where it has none."""
    if CANARY not in prompt.system:
        return prompt
    return prompt.model_copy(update={"system": prompt.system.replace(CANARY, token)})


def _messages(prompt: Prompt, user: str) -> list[Message]:
    return [Message(role="system", content=prompt.system), Message(role="user", content=user)]


def shown(passages: Sequence[Source], key: str) -> str:
    """The numbered passages above the mark that `key` makes: what stands there is data, never an order."""
    return above_mark(numbered(passages), key)


def render(prompt: Prompt, passages: Sequence[Source], question: str, key: str) -> list[Message]:
    """Messages that ask `question` over `passages`, which stand above the mark of `key` (the request's trace id)."""
    return _messages(prompt, prompt.user.format(passages=shown(passages, key), question=_fold(question)))


def render_support(prompt: Prompt, passages: Sequence[Source], claim: str, key: str) -> list[Message]:
    """Messages that ask whether `passages` support `claim`; the model answers yes or no."""
    return _messages(prompt, prompt.support.format(passages=shown(passages, key), claim=_fold(claim)))


def asked_in(prompt: Prompt, content: str) -> str:
    """The question or claim of a user message that this prompt made; any other message is taken whole."""
    for template in (prompt.user, prompt.support):
        for shape in (template, template.replace("{passages}", "").strip()):  # further questions have no passages
            if found := _asked(shape).fullmatch(content):
                return found.group(1)
    return content


@lru_cache
def _asked(template: str) -> re.Pattern[str]:
    """What a rendered template looks like; its group is the question or the claim."""
    shapes = {"passages": ".*", "question": r"([^\n]*)", "claim": r"([^\n]*)", None: ""}
    parts = (re.escape(text) + shapes[name] for text, name, _, _ in Formatter().parse(template))
    return re.compile("".join(parts), re.DOTALL)


def answer_parts(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Cut `14 days [2]; the duty chemist [1]` into ("14 days", (2,)), ("the duty chemist", (1,)).

    A part without a mark takes no number; empty parts vanish.
    """
    parts = []
    for piece in PART.split(text.strip()):
        numbers = tuple(dict.fromkeys(int(number) for number in MARK.findall(piece)))
        words = MARK.sub("", piece).strip()
        if words or numbers:
            parts.append((words, numbers))
    return parts


def is_refusal(text: str, refusal: str = DEFAULT.refusal) -> bool:
    """Whether `text` says that the passages do not answer (case, marks and the last full stop do not matter)."""
    said = _fold(MARK.sub("", text)).rstrip(".").casefold()
    return not said or said.startswith(refusal.rstrip(".").casefold())


def may_become_refusal(text: str, refusal: str = DEFAULT.refusal) -> bool:
    """Whether more text can decide if `text`, which is still being written, is a refusal."""
    said = _fold(MARK.sub("", OPEN_MARK.sub("", text))).rstrip(".").casefold()
    wanted = refusal.rstrip(".").casefold()
    return said != wanted and wanted.startswith(said)


def parse_answer(text: str, n: int, refusal: str = DEFAULT.refusal) -> tuple[str, tuple[int, ...], bool]:
    """Read a model's answer over `n` passages: (answer without marks, numbers cited that exist, refused).

    Numbers come in order of appearance, each once. Numbers outside 1..n are left out: see `unknown_marks`.
    """
    if is_refusal(text, refusal):
        return refusal, (), True
    parts = answer_parts(text)
    answer = "; ".join(words for words, _ in parts if words)
    cited = tuple(dict.fromkeys(number for _, numbers in parts for number in numbers if 1 <= number <= n))
    return answer, cited, False


def unknown_marks(text: str, n: int) -> tuple[int, ...]:
    """Numbers that the answer cites though there are only `n` passages."""
    return tuple(sorted({int(number) for number in MARK.findall(text)} - set(range(1, n + 1))))


def store_prompt(prompt: Prompt, store: ArtifactStore) -> ArtifactRef:
    """Keep the prompt as an artifact folder."""
    with store.writing(KIND) as draft:
        write_atomic(draft.folder / FILE, canonical_json(prompt.model_dump(mode="json")))
    return draft.stored()


def load_prompt(ref: ArtifactRef, store: ArtifactStore) -> Prompt:
    """The stored prompt. Raises InputError when the file is not a prompt of this version."""
    path = store.open(ref) / FILE
    try:
        return Prompt.model_validate_json(path.read_text("utf-8"))
    except ValidationError as error:
        raise InputError(f"prompt {ref.digest[:12]}: {error.errors()[0]['msg']}") from error
