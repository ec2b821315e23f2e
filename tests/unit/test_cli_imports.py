"""What `kvfs get` imports, since that is most of the time it takes."""

import subprocess
import sys

import pytest

import kvfs

HEAVY = [
    *("rich", "subprocess", "importlib.metadata", "ctypes", "asyncio", "email", "multiprocessing"),
    *("json", "difflib", "shutil", "tempfile", "socket", "select", "unittest", "concurrent", "pdb"),
    *("kvfs.daemon", "kvfs.mounts", "kvfs.control", "kvfs.filesystem", "kvfs.fuse"),
    *("kvfs.store.compaction", "kvfs.store.background", "kvfs.store.process", "kvfs.store.watch"),
    *("kvfs.store.backup", "kvfs.store.verify", "kvfs.store.repair", "kvfs.store.history"),
    *("kvfs.cli.report", "kvfs.cli.transfer", "kvfs.cli.past", "kvfs.cli.man", "kvfs.cli.shells"),
    *("kvfs.cli.completion", "kvfs.cli.candidates", "kvfs.cli.tables", "click.shell_completion"),
]
"""Modules that take long, or are for something else."""

CODE = """
import sys
from kvfs.cli import main
try:
    main()
finally:
    sys.stderr.write(" ".join(sys.modules))
"""


@pytest.fixture
def store(tmp_path):
    with kvfs.open(tmp_path / "s") as opened:
        opened.put("key", "value")
    return str(tmp_path / "s")


def imported(*args):
    done = subprocess.run([sys.executable, "-c", CODE, *args], capture_output=True, check=True)
    return done.stdout, set(done.stderr.decode().split())


def test_get_imports_nothing_that_it_does_not_need(store):
    said, modules = imported("get", store, "key")
    assert said == b"value"
    assert "kvfs.cli.verbs.keys" in modules
    assert sorted(name for name in HEAVY if name in modules) == []
    assert [name for name in modules if name.startswith("kvfs.cli.verbs.")] == [
        "kvfs.cli.verbs.keys"
    ]


def test_what_is_heavy_would_be_seen(store):
    _, modules = imported("check", store, "--json")
    assert {"json", "kvfs.store.verify", "kvfs.cli.report"} <= modules
    assert "rich" not in modules
