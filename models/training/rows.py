"""What is learnt from: chats with the answers to learn, and pairs of a chosen and a rejected answer."""

from pydantic import BaseModel, ConfigDict

from models.types import Message


class TrainingRow(BaseModel):
    """One chat to learn from, and where it comes from. Every assistant message is learnt."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[Message, ...]
    source: str
    """`case:<id>` or `corpus:<chunk id>`."""
    refusal: bool = False
    """Whether one of its replies is the refusal."""

    @property
    def questions(self) -> int:
        """Replies to learn."""
        return sum(message.role == "assistant" for message in self.messages)


class PreferenceRow(BaseModel):
    """A prompt with the answer that was preferred and the one that was not: a row of direct preference optimization."""

    model_config = ConfigDict(frozen=True)

    prompt: tuple[Message, ...]
    """Ends with a user message."""
    chosen: str
    rejected: str
    source: str
    """`file:<name>:<line>`, `feedback:<trace id>` or `case:<id>`."""
