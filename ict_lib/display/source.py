"""What a page quotes: the library's own code, and sentences whose numbers were computed."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown


def source(thing: Callable[..., Any] | type, docstring: bool = False) -> Markdown:
    """Show the library's code of a function or class, so that a page never holds a copy.

    Source: own.

    Args:
        thing: a function or class of the library.
        docstring: show that too.

    Returns:
        A highlighted code block.
    """
    code = textwrap.dedent(inspect.getsource(thing))
    return Markdown(f"```python\n{code if docstring else _without_docstring(code)}```")


def say(text: str) -> Markdown:
    """Show a sentence; give it as an f-string, so that its numbers come from a computation or a record.

    Source: own.

    Args:
        text: Markdown.

    Returns:
        What a cell displays.
    """
    return Markdown(inspect.cleandoc(text))


def _without_docstring(code: str) -> str:
    """Cut the docstring out of the source of one function or class."""
    first = ast.parse(code).body[0].body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return code
    lines = code.splitlines(keepends=True)
    return "".join(lines[: first.lineno - 1] + lines[first.end_lineno :])
