"""The documentation does what it says: every session in it is run, page by page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOT_RUN = {
    "CONTRIBUTING.md": 5,  # set up the repository that is being tested, or take too long
    "docs/mounting.md": 5,  # mount by /etc/fstab and systemd, which are the machine's
    "docs/transfer.md": 2,  # ask servers of Redis and etcd
}
"""How many blocks of a page are marked as not run."""


def name(page):
    return str(page.relative_to(ROOT))


def with_blocks(page):
    return any(block.reason is None for block in documents.blocks(page.read_text()))


@pytest.fixture
def place(stores):
    """Return a directory as a new user has it: with `mount.sh`, and the `kvfs` that it installs."""
    directory = stores.directory / "here"
    programs = directory / ".venv" / "bin"
    programs.mkdir(parents=True)
    for program in ("kvfs", "python"):
        (programs / program).write_text(
            f'#!/bin/sh\nexec {Path(sys.executable).with_name(program)} "$@"\n'
        )
        (programs / program).chmod(0o755)
    # The script itself makes its default store beside it, in the repository.
    script = f'[ $# -gt 0 ] || set -- kvfs-store kvfs-mount\nexec {ROOT}/mount.sh "$@"\n'
    (directory / "mount.sh").write_text(f"#!/bin/sh\n{script}")
    (directory / "mount.sh").chmod(0o755)
    return directory


@pytest.mark.parametrize("page", [*filter(with_blocks, PAGES)], ids=name)
def test_a_page_can_be_pasted(page, place, tools):
    programs = place / ".venv" / "bin"
    try:
        with documents.Session(place, documents.environment(place, programs)) as session:
            for block in documents.blocks(page.read_text()):
                if block.reason is None:
                    session.run(block)
    finally:
        for mountpoint in tools.mounts_below(place):
            subprocess.run([programs / "kvfs", "unmount", mountpoint], check=False, timeout=60)


def test_a_block_is_left_out_by_decision_only():
    marked = {}
    for page in PAGES:
        if count := sum(block.reason is not None for block in documents.blocks(page.read_text())):
            marked[name(page)] = count
        marks = len(re.findall(r"^ *<!-- not run", page.read_text(), re.MULTILINE))
        assert marks == count, f"{name(page)}: a mark without a block, or without a reason"
    assert marked == NOT_RUN


SH = "```sh\n{}\n```\n"
CONSOLE = "```console\n{}\n```\n"
PYTHON = "```python\n{}\n```\n"


@pytest.mark.parametrize(
    "page",
    [
        SH.format("false\ntrue"),
        SH.format("cat none | wc -c"),
        SH.format("cd /"),
        CONSOLE.format("$ echo 1\n2"),
        CONSOLE.format("$ echo 1"),
        CONSOLE.format("$ true\n1"),
        CONSOLE.format("$ printf 'a\\nb\\nc\\n'\na\n...\nd"),
        CONSOLE.format("$ printf 'a\\nb\\n'\na..."),
        CONSOLE.format("$ exit 1"),
        CONSOLE.format("1\n$ echo 1"),
        PYTHON.format("1 + 1  # 3"),
        PYTHON.format("print(2)  # 3"),
        PYTHON.format("for n in (1, 2):\n    print(n)  # 1"),
        PYTHON.format("None  # 3"),
        PYTHON.format("undefined"),
        PYTHON.format("(\n    [1]\n)  # [2]"),
    ],
)
def test_what_is_wrong_is_seen(page, tmp_path):
    (block,) = documents.blocks(page)
    session = documents.Session(tmp_path, dict(os.environ))
    with session, pytest.raises(AssertionError):
        session.run(block)


@pytest.mark.parametrize(
    "page",
    [
        SH.format("# a comment\ntrue &&\n  echo 1 > file"),
        CONSOLE.format("$ echo 1\n1\n$ for n in 1 2; do\n>   echo $n\n> done\n1\n2"),
        CONSOLE.format("$ printf 'a\\nb\\nc\\n'\na\n...\nc\n$ true"),
        CONSOLE.format("$ echo a\n...\na\n..."),
        CONSOLE.format("$ ls none\nls: ...none...: No such file or directory"),
        PYTHON.format(
            "x = 1  # a comment\nx + 1  # 2\nprint(b'1')  # b'1'\nprint()\nNone  # nothing"
        ),
        PYTHON.format("with open('f', 'w') as f:\n    print(f.name)  # f"),
        "1. A list:\n\n    ```sh\n    true\n    ```\n",
    ],
)
def test_what_is_right_is_let_pass(page, tmp_path):
    (block,) = documents.blocks(page)
    with documents.Session(tmp_path, dict(os.environ)) as session:
        session.run(block)


def test_which_blocks_are_found():
    page = "\n".join(
        [
            SH.format("1"),
            "```text\n2\n```",
            "```\n3\n```",
            "<!-- not run: why -->",
            SH.format("4"),
            SH.format("5"),
        ]
    )
    found = [(block.text.strip(), block.reason) for block in documents.blocks(page)]
    assert found == [("1", None), ("4", "why"), ("5", None)]
