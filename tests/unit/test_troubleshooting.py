"""The page of messages names those that kvfs has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()


def named():
    """Return the messages of the page that kvfs is said to have."""
    ours, _ = PAGE.split("\n## What other programs say\n")
    for item in re.findall(r"^- ((?:`[^`]+`,?\s+)*`[^`]+`):", ours, re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", item)


def has(tree):
    """Return the texts in the source, with `@` for each part that is filled in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "@" for v in node.values)
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[sdr]", "@", node.value)


@pytest.fixture(scope="module")
def texts():
    files = sorted((ROOT / "kvfs").rglob("*.py"))
    return [text for file in files for text in has(ast.parse(file.read_text()))]


def test_every_item_names_a_message():
    ours, _ = PAGE.split("\n## What other programs say\n")
    items = re.findall(r"^- ", ours, re.MULTILINE)
    assert len(items) == len(re.findall(r"^- (?:`[^`]+`,?\s+)*`[^`]+`:", ours, re.MULTILINE))
    assert len(items) > 50


@pytest.mark.parametrize("message", list(named()))
def test_a_message_is_one_of_kvfs(message, texts):
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    assert any(re.search(pattern, text, re.DOTALL) for text in texts), message
