"""What is learnt from: chats with the answers to learn, and pairs of a chosen and a rejected answer."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from models.prompts import Source
from models.types import Message


def mark_key(question: str, shown: Sequence[Source]) -> str:
    """What the mark below the passages of a row is made of: its own texts, so that it is the same every time."""
    return "\n".join([question, *(passage.text for passage in shown)])


class TrainingRow(BaseModel):
    """One chat to learn from, and where it comes from. Every assistant message is learnt.

    A row whose only message is an assistant's is a text, not a chat (`is_text`): all of it is learnt, as it stands.
    """

    model_config = ConfigDict(frozen=True)

    messages: tuple[Message, ...]
    source: str
    """`case:<id>`, `corpus:<chunk id>`, `teacher:<chunk id>`, `feedback:<trace id>` or `file:<path>:<line>`."""
    refusal: bool = False
    """Whether one of its replies is the refusal."""

    @property
    def questions(self) -> int:
        """Replies to learn."""
        return sum(message.role == "assistant" for message in self.messages)

    @property
    def is_text(self) -> bool:
        """Whether it is a text to go on writing: no chat template belongs around it."""
        return len(self.messages) == 1


class PreferenceRow(BaseModel):
    """A prompt with the answer that was preferred and the one that was not: a row of direct preference optimization."""

    model_config = ConfigDict(frozen=True)

    prompt: tuple[Message, ...]
    """Ends with a user message."""
    chosen: str
    rejected: str
    source: str
    """`case:<id>`, `corpus:<chunk id>`, `feedback:<trace id>` or `file:<path>:<line>`."""
