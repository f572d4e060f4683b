"""The mark below what is data: a line of random letters that no passage can hold; and text that cannot act as control.

Spotlighting by delimiter (Hines et al. 2024, arXiv:2403.14720). Every passage is one line, so none can make a line of
its own; what looks like a mark inside one is written large. The shape was measured: docs/decisions/spotlighting.md.
"""

import hashlib
import re

LETTERS = "bcdfghjklmnpqrstvwxz"
"""Without vowels, so that no word of a text looks like a mark."""
LENGTH = 12
"""20¹² is 52 bits: a passage is written before its request is, and cannot guess the mark."""

_LIKE = re.compile(rf"[{LETTERS}]{{{LENGTH},}}")
_CONTROL = re.compile(
    r"<(?=[|\uff5c])|<(?=/?(?:s|bos|eos|pad|unk|(?:start|end)_of_turn|im_start|im_end)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])|<(?=</?SYS>>)",
    re.IGNORECASE,
)
"""First sign of what chat templates of model families write around roles: a tokenizer would read it as a token."""


def mark_of(key: str) -> str:
    """The mark of one request: letters that only `key` decides (a trace id; for training what the row is made of)."""
    left = int.from_bytes(hashlib.sha256(f"passages:{key}".encode()).digest())
    letters = ""
    for _ in range(LENGTH):
        left, place = divmod(left, len(LETTERS))
        letters += LETTERS[place]
    return letters


def inert(text: str) -> str:
    """Text as it may stand in a prompt: nothing in it is a mark or a token of a chat template."""
    return _CONTROL.sub(lambda sign: f"{sign.group()} ", _LIKE.sub(lambda like: like.group().upper(), text))


def above_mark(lines: str, key: str) -> str:
    """Lines of passages, closed by the mark: all above it is data. Nothing where there is no line.

    No mark opens the data: the message begins with it, and passages that are shown again are the same beginning of a
    prompt, which an engine's prefix cache knows.
    """
    return f"{lines}\n{mark_of(key)}" if lines else ""
