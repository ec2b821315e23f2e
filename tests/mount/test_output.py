"""What verbs print: JSON as docs/cli.md has it, pipes, full disks, interrupts, terminals."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
KVFS = [sys.executable, "-m", "kvfs"]
PRINTING = [
    "list STORE",
    "list STORE -0",
    "list STORE --json",
    "get STORE a",
    "log STORE",
    "log STORE a",
    "log STORE --json",
    "diff STORE 0",
    "diff STORE 0 --json",
    "undo STORE --to now",
    "snapshot list STORE",
    "snapshot list STORE --json",
    "snapshot create STORE new --json",
    "export STORE -",
    "check STORE",
    "check STORE --json",
    "verify STORE",
    "stat STORE",
    "stat STORE --json",
    "repair STORE",
    "repair STORE --json",
    "compact STORE",
    "backup STORE COPY",
    "init COPY --json",
    "completion bash",
    "man",
    "help",
    "--help",
    "--version",
    "get --help",
]


@pytest.fixture
def store(stores):
    """Return a store of some keys and a snapshot, that is not mounted."""
    made = stores.make(mount=False)
    for key in ("a", "b"):
        made.cli("put", made.store, key, "1", ok=True)
    made.cli("snapshot", "create", made.store, "now", ok=True)
    return made


def words(line, store):
    places = {"STORE": str(store.store), "COPY": str(store.store.parent / "copy")}
    return [places.get(word, word) for word in line.split()]


@pytest.mark.parametrize("line", PRINTING)
def test_nobody_reads(store, line):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*KVFS, *words(line, store)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("line", PRINTING)
def test_standard_output_is_full(store, line):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*KVFS, *words(line, store)],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    said = done.stderr.decode()
    assert re.fullmatch(r"kvfs: .*(standard output|shown): No space left on device\n", said)


@pytest.mark.parametrize(
    "line",
    [
        "list STORE",
        "log STORE",
        "log STORE --json",
        "export STORE -",
        "get STORE big",
        "diff STORE 0",
    ],
)
def test_more_than_a_pipe_holds(stores, line):
    store = stores.make(mount=False)
    lines = "".join(f'{{"key": "{"k" * 50}{n}", "value": ""}}\n' for n in range(5000))
    store.cli("import", store.store, "-", stdin=lines.encode(), ok=True)
    store.cli("put", store.store, "big", stdin=b"x" * 3_000_000, ok=True)
    with subprocess.Popen(
        [*KVFS, *words(line, store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")
    # And who is interrupted does not wait for the reader.
    with subprocess.Popen(
        [*KVFS, *words(line, store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr.read()) == (130, b"kvfs: interrupted\n")


def documented():
    """Return the members of each verb's JSON as the page has them: those always there, and all."""
    found = {}
    for line in PAGE.read_text().split("## JSON")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            told = re.sub(r"\(.*?\)|:.*?(;|$)", "", cells[2])
            everything = set(re.findall(r"`(\w+)`", told.split(":")[0]))
            sure = set(re.findall(r"`(\w+)`", re.sub(r"\[.*?\]", "", told)))
            for verb in re.findall(r"`([\w ]+)`", cells[0]):
                found[verb] = cells[1] == "lines", sure, everything
    return found


def test_json_is_as_documented(stores):
    store = stores.make(mount=False)
    copy, mnt, other = (str(store.store.parent / name) for name in ("copy", "mnt", "other"))
    path = str(store.store)
    store.cli("put", path, "a", "1", ok=True)
    store.cli("put", path, b"\xff", "1", ok=True)
    shown = {}

    def ask(*args):
        out = store.cli(*args, "--json", ok=True).stdout
        verb = " ".join(args[:2] if args[0] == "snapshot" else args[:1])
        lines, _, _ = documented()[verb]
        shown[verb] = [json.loads(part) for part in (out.splitlines() if lines else [out])]
        return shown[verb]

    assert ask("init", other)[0]["store"] == other
    mounted = ask("mount", path, mnt)[0]
    store.daemon = stores.adopt(store.store)
    assert mounted == {
        "store": path,
        "mountpoint": mnt,
        "pid": store.daemon.pid,
        "read_only": False,
    }
    store.run("mkdir d; mv a d/b; truncate -s 5 d/b; echo 1 >> d/b")
    assert ask("unmount", mnt) == [{"store": path, "mountpoint": mnt}]
    assert store.daemon.ended(20)
    assert ask("list", path) == [{"key": "d/b"}, {"key_base64": "/w=="}]
    ask("log", path)
    assert ask("snapshot", "create", path, "now")[0]["name"] == "now"
    assert {"change": "added", "key": "d/b"} in ask("diff", path, "0")
    assert ask("restore", path, "a", "--at", "0") == [{"restored": 1}]
    assert ask("undo", path, "--to", "now") == [{"restored": 0, "removed": 1}]
    assert [line["name"] for line in ask("snapshot", "list", path)] == ["now"]
    assert ask("snapshot", "delete", path, "now") == [{"name": "now"}]
    for line in (("backup", path, copy), ("verify", copy)):
        ask(*line)
    for verb in ("check", "repair", "stat", "compact"):
        ask(verb, path)
    wanted = documented()
    assert shown.keys() == wanted.keys()
    for verb, objects in shown.items():
        _, sure, everything = wanted[verb]
        names = [{name.removesuffix("_base64") for name in values} for values in objects]
        assert all(sure <= found <= everything for found in names), (verb, names)
        assert set().union(*names) == everything, verb


def test_a_mount_in_the_foreground_says_so_once_it_answers(stores):
    store = stores.make(mount=False)
    with subprocess.Popen(
        [*KVFS, "mount", "-f", "--json", store.store, store.path], stdout=subprocess.PIPE
    ) as process:
        shown = b""
        while not shown.endswith(b"}\n"):
            shown += process.stdout.readline()
        store.daemon = stores.adopt(store.store)
        assert json.loads(shown)["pid"] == process.pid
        store.run("echo 1 > a")
        store.cli("unmount", store.path, ok=True)
        assert process.wait(20) == 0


def on_terminal(args, **variables):
    """Return what kvfs prints on a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    with subprocess.Popen(
        [*KVFS, *args], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # all of it was read
                break
            said += part
        os.close(ours)
        assert process.wait(20) == 0
    return said.decode()


def test_colours_and_tables_are_for_terminals(store):
    for verb, colour in (
        ("check", "\33[32msound"),
        ("repair", "\33[32msound"),
        ("diff", "\33[32m+ b"),
    ):
        args = [verb, str(store.store), *(["0"] if verb == "diff" else [])]
        plain = store.cli(*args, ok=True).stdout.decode()
        assert plain.isascii()
        assert "\33" not in plain
        shown = on_terminal(args, NO_COLOR=None)
        assert colour in shown
        assert "\33[3" not in on_terminal(args, NO_COLOR="1")
        assert "\33[3" not in on_terminal(args, NO_COLOR=None, TERM="dumb")
        if verb == "check":
            assert "─" in shown
    assert store.cli("check", store.store, ok=True).stdout.splitlines()[0].split() == [
        *(b"segment", b"bytes", b"records", b"state"),
    ]
