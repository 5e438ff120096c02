"""Digests of sources: what decides a run, without what decides nothing in it."""

from __future__ import annotations

import ast
import hashlib
import linecache

from posterior_collapse.errors import BadInput


def without_docstrings(source: str) -> str:
    """Source as a syntax tree's text: comments, layout and docstrings do not retrain anything."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def code_digest(file: str) -> str:
    """Hex digest of the file, or the notebook's cell, that code was compiled from.

    It is that of the text as it stands now, so take it while the code is being run: a file that is
    edited later is not what was imported.

    Args:
        file: ``__code__.co_filename`` of a function.

    Raises:
        BadInput: the text cannot be read, as where code was typed at a prompt.
    """
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    if not lines:
        raise BadInput(
            f"the source of {file} cannot be read, so nobody could tell its runs from those of "
            "another version; write the method into a file or a notebook's cell"
        )
    return hashlib.sha256(without_docstrings("".join(lines)).encode()).hexdigest()
