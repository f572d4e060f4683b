"""Markdown reader: front matter, headings as sections, table rows and list items as lines, code verbatim."""

import datetime
import re
from collections.abc import Iterator
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from indexes.loaders.extracted import Extracted, TextBuilder, decode, fold, table_lines
from infra.errors import InputError

_VALUES = ("title", "language", "supersedes")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)


def read_markdown(data: bytes) -> Extracted:
    """Text and sections of a markdown file. Comments and inline marks are dropped. Raises InputError."""
    text = decode(data)
    matter: dict[str, Any] = {}
    found = _FRONT_MATTER.match(text)
    if found:
        matter, text = _front_matter(found.group(1)), text[found.end() :]
    builder = TextBuilder()
    tree = SyntaxTreeNode(MarkdownIt("commonmark", {"html": True}).enable("table").parse(text))
    for node in tree.children:
        _add(builder, node)
    result = builder.build()
    return result.model_copy(update=matter | {"title": matter.get("title") or result.title})


def _front_matter(text: str) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a day that no month has
        raise InputError(f"front matter is not valid YAML: {_where(error)}") from error
    if not isinstance(loaded, dict):
        return {}
    kept: dict[str, Any] = {name: _value(name, loaded[name]) for name in _VALUES if loaded.get(name)}
    access = loaded.get("access")
    if access:
        labels = access if isinstance(access, list) else [access]
        kept["access"] = tuple(_value("access", label) for label in labels)
    day = loaded.get("date")
    if day is not None:
        if not isinstance(day, datetime.date):
            raise InputError(f"front matter: date {day!r} is not YYYY-MM-DD")
        kept["date"] = day.date() if isinstance(day, datetime.datetime) else day
    return kept


def _value(name: str, value: object) -> str:
    """A text of the front matter, in one line. Raises InputError for a list or mapping, which may be endless."""
    shown = "" if isinstance(value, list | dict | set) else fold(str(value))
    if not shown:
        raise InputError(f"front matter: {name} must be one line of text")
    return shown


def _where(error: Exception) -> str:
    """What is wrong with YAML and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem} in its line {error.problem_mark.line + 1}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _add(builder: TextBuilder, node: SyntaxTreeNode) -> None:
    if node.type == "heading":
        builder.heading(int(node.tag[1]), _inline(node))
    elif node.type == "paragraph":
        builder.paragraph(_inline(node))
    elif node.type in ("fence", "code_block"):
        builder.code(node.content, node.info.strip())
    elif node.type == "table":
        rows = [row for part in node.children for row in part.children]
        builder.lines(table_lines([[_inline(cell) for cell in row.children] for row in rows]))
    elif node.type in ("bullet_list", "ordered_list"):
        _add_list(builder, node)
    elif node.type == "html_block":
        builder.paragraph(_without_tags(node.content))
    else:
        for child in node.children:
            _add(builder, child)


def _add_list(builder: TextBuilder, node: SyntaxTreeNode) -> None:
    """Items as lines; code inside an item follows the list so far."""
    lines: list[str] = []
    for block in _items(node, 0):
        if isinstance(block, str):
            lines.append(block)
        else:
            builder.lines(lines)
            lines = []
            _add(builder, block)
    builder.lines(lines)


def _items(node: SyntaxTreeNode, depth: int) -> Iterator[str | SyntaxTreeNode]:
    for item in node.children:
        mark = f"{item.info}{item.markup}" if node.type == "ordered_list" else "-"
        words: list[str] = []
        rest: list[str | SyntaxTreeNode] = []
        for child in item.children:
            if child.type in ("bullet_list", "ordered_list"):
                rest.extend(_items(child, depth + 1))
            elif child.type in ("fence", "code_block", "table"):
                rest.append(child)
            else:
                words.append(_inline(child))
        yield "  " * depth + f"{mark} {fold(' '.join(words))}"
        yield from rest


def _inline(node: SyntaxTreeNode) -> str:
    """The readable characters below a node."""
    return "".join(_pieces(node))


def _pieces(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type in ("text", "code_inline"):
        yield node.content
    elif node.type in ("softbreak", "hardbreak"):
        yield " "
    elif node.type == "html_inline":
        yield ""
    else:
        for child in node.children:
            yield from _pieces(child)


def _without_tags(html: str) -> str:
    """Text of a raw HTML block; comments are not text."""
    return re.sub(r"<[^>]+>", " ", re.sub(r"<!--.*?-->", " ", html, flags=re.DOTALL))
