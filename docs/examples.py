"""Lets the examples in docstrings be blocks of code on the site."""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts each paragraph that begins with a prompt, and all indented behind it, into a fence."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of `obj`, if it has one."""
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(
                f"```pycon\n{text}\n```" if text.startswith(">>>") else text for text in paragraphs
            )
