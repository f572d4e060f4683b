"""What a conversation looks like on the wire: OpenAI's messages, tools, response format and sampling fields."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from infra.errors import InputError
from models.answering.chat import ClientTool, Talk
from models.answering.schemas import NO_CALL, check_schema
from models.types import Message

MOST_TOOLS = 32
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Lenient):
    """A text part of a message's content."""

    type: Literal["text"]
    text: str


class CalledFunction(_Lenient):
    """Name and arguments (JSON) of a call that an assistant's message holds."""

    name: ToolName
    arguments: str = "{}"


class MadeCall(_Lenient):
    """A call that an assistant's message holds."""

    id: str = Field("", max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(_Lenient):
    """A message as clients send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: str | None = Field(None, max_length=200)

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""

    def as_read(self, called: dict[str, str]) -> Message:
        """As the model reads it. Calls and results are told in words: not every model has roles for them."""
        if self.role == "tool":
            name = called.get(self.tool_call_id or "", "a tool")
            return Message(role="user", content=f"Result of {name}: {self.text}")
        if self.role == "assistant":
            calls = [
                orjson.dumps({"name": call.function.name, "arguments": call.function.arguments}).decode()
                for call in self.tool_calls or ()
            ]
            return Message(role="assistant", content="\n".join(filter(None, [self.text, *calls])))
        return Message(role="user" if self.role == "user" else "system", content=self.text)


class Function(_Lenient):
    """A function that the client can run."""

    name: ToolName
    description: str = Field("", max_length=2000)
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})


class ToolDefinition(_Lenient):
    """A tool of the client."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Lenient):
    """The function that has to be called."""

    name: ToolName


class NamedChoice(_Lenient):
    """The tool that has to be called."""

    type: Literal["function"] = "function"
    function: NamedFunction


class JsonSchema(_Lenient):
    """A named schema."""

    name: str = Field("answer", max_length=64)
    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Lenient):
    """What form the answer has to have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def wanted(self) -> dict[str, Any] | None:
        """The schema that decoding is held to; None for plain text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise InputError("response_format.json_schema: needed with this type")
        check_schema(self.json_schema.json_schema, "response_format.json_schema.schema")
        return self.json_schema.json_schema


class Conversation(_Lenient):
    """The part of a chat request that says what the model shall write."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: (
        Annotated[str, Field(min_length=1, max_length=200)]
        | list[Annotated[str, Field(min_length=1, max_length=200)]]
        | None
    ) = Field(None, max_length=200)
    tools: list[ToolDefinition] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    response_format: ResponseFormat | None = None

    @property
    def question(self) -> str:
        """The last message of the user, or an empty text."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    def talk(self) -> Talk:
        """The conversation as the model gets it. Raises InputError for tools or schemas that cannot be used."""
        called = {call.id: call.function.name for message in self.messages for call in message.tool_calls or ()}
        tools, must_call = self._tools()
        options = {
            name: value
            for name in ("top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
            if (value := getattr(self, name)) is not None
        }
        return Talk(
            messages=tuple(message.as_read(called) for message in self.messages),
            question=self.question,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            options=options,
            schema=self.response_format.wanted if self.response_format else None,
            tools=tools,
            must_call=must_call,
        )

    def _tools(self) -> tuple[tuple[ClientTool, ...], bool]:
        if not self.tools or self.tool_choice == "none":
            if isinstance(self.tool_choice, NamedChoice) or self.tool_choice == "required":
                raise InputError("tool_choice: there are no tools")
            return (), False
        found = {}
        for number, tool in enumerate(self.tools):
            function = tool.function
            if function.name == NO_CALL or function.name in found:
                raise InputError(f"tools.{number}.function.name: {function.name!r} is taken")
            check_schema(function.parameters, f"tools.{number}.function.parameters")
            found[function.name] = ClientTool(function.name, function.description, function.parameters)
        if isinstance(self.tool_choice, NamedChoice):
            name = self.tool_choice.function.name
            if name not in found:
                raise InputError(f"tool_choice.function.name: no tool {name!r}")
            return (found[name],), True
        return tuple(found.values()), self.tool_choice == "required"
