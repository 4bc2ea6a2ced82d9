"""What a page quotes: the library's own code, and sentences whose numbers were computed."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown


def source(thing: Callable[..., Any] | type, fields: bool = False) -> Markdown:
    """Show the library's code of a function, or of a class or its fields, so that a page never holds a copy."""
    code = _without_docstring(textwrap.dedent(inspect.getsource(thing)))
    if fields:
        code = code.partition("\n    def ")[0]
    return Markdown(f"```python\n{code}```")


def say(text: str) -> Markdown:
    """Show a sentence in Markdown; give it as an f-string, so that its numbers come from a computation or a record."""
    return Markdown(inspect.cleandoc(text))


def _without_docstring(code: str) -> str:
    """Cut the docstrings out of the source of a function, or of a class and its methods."""
    lines = code.splitlines(keepends=True)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            start, end = node.body[0].lineno - 1, node.body[0].end_lineno
            lines[start:end] = [""] * (end - start)
    return "".join(lines)
