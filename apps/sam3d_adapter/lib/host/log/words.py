"""The words of a log line as they stand in the source, without the values that were inserted.

MONAI Label builds its lines with f-strings. The value is part of the text when the logger gets it, and nothing at run
time tells which part; the source at that line does.
"""

import ast
import functools
import linecache
import re
from collections.abc import Iterator

VALUE = "…"
"""Stands for an inserted value."""

_LOG_METHODS = ("debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log")
PERCENT = re.compile(r"%(?:\((?P<key>\w+)\))?[-+ #0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?(?P<kind>[a-zA-Z%])")
"""A conversion of the % operator."""
_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}")


def written_words(file: str, line: int) -> tuple[str, bool] | None:
    """What a logging call says, whatever it was called with.

    Args:
        file: source file of the call.
        line: one of its lines.

    Returns:
        The words, values as ``VALUE``; whether they are a template whose values are passed beside it. None where there
        is no such call, or nothing but a value in it.
    """
    found = [call for call in _calls(file) if call[0] <= line <= call[1]]
    if not found:
        return None
    # Calls may lie inside one another.
    _, _, text, is_template = min(found, key=lambda call: call[1] - call[0])
    return (text, is_template) if text.replace(VALUE, "").strip() else None


def is_written(file: str, text: str) -> bool:
    """Whether a text stands in a source file as a whole, as where ``message = "..."`` comes before the call."""
    return text in _constants(file)


@functools.lru_cache(maxsize=512)
def _calls(file: str) -> tuple[tuple[int, int, str, bool], ...]:
    """First line, last line, words and kind of every logging call of a file."""
    return tuple(found for node in _nodes(file) if (found := _describe(node)))


@functools.lru_cache(maxsize=512)
def _constants(file: str) -> frozenset[str]:
    return frozenset(
        node.value for node in _nodes(file) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _nodes(file: str) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse("".join(linecache.getlines(file))))
    except (SyntaxError, ValueError):
        return


def _describe(node: ast.AST) -> tuple[int, int, str, bool] | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOG_METHODS):
        return None
    place = int(node.func.attr == "log")
    if len(node.args) <= place:
        return None
    message = node.args[place]
    is_template = isinstance(message, ast.Constant) and isinstance(message.value, str)
    return node.lineno, node.end_lineno or node.lineno, "".join(_words(message)), is_template


def _words(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from _words(part)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _words(node.left)
        yield from _words(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        yield PERCENT.sub(lambda found: "%" if found["kind"] == "%" else VALUE, "".join(_words(node.left)))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        template = "".join(_words(node.func.value))
        yield _BRACES.sub(lambda found: found[0][0] if found[0] in ("{{", "}}") else VALUE, template)
    else:
        yield VALUE
