"""Completion in real shells, of a store alone and of one behind its mount."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvfs.cli import candidates

KEYS = [
    "config/port",
    "config/host",
    "conf ig/a b",
    "it's",
    "new\nline",
    "a:b=c",
    'x"y$z!',
    "-dash",
]
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "HISTFILE": ""}
PATIENCE = 20.0

CASES = [
    ("kvfs che", "kvfs check "),
    ("kvfs snapshot cr", "kvfs snapshot create "),
    ("kvfs list --js", "kvfs list --json "),
    ("kvfs get s config/p", "kvfs get s config/port "),
    ("kvfs get s it", "kvfs get s it\\'s "),
    ("kvfs get s conf\\ ", "kvfs get s conf\\ ig/"),
    ("kvfs get s conf\\ ig/", "kvfs get s conf\\ ig/a\\ b "),
    ("kvfs get s new", "kvfs get s new$'\\n'line "),
    ("kvfs get s a:b=", "kvfs get s a:b=c "),
    ("kvfs get s -- -d", "kvfs get s -- -dash "),
    ("kvfs undo s --to bef", "kvfs undo s --to before "),
    ("kvfs stat oth", "kvfs stat other/"),
]


@pytest.fixture(params=["alone", "mounted"])
def there(request, stores):
    """Return a directory with a store `s` of `KEYS`, mounted or not."""
    store = stores.make(mount=request.param == "mounted")
    for key in KEYS:
        store.cli("put", store.store, "--", key, "v", ok=True)
    store.cli("snapshot", "create", store.store, "before", ok=True)
    (stores.directory / "s").symlink_to(store.store)
    (stores.directory / "other").mkdir()
    return stores.directory


class Terminal:
    """A shell on a terminal; used as a context, it is ended."""

    def __init__(self, argv, cwd):
        self._pid, self._fd = pty.fork()
        if not self._pid:
            os.chdir(cwd)
            os.execvpe(argv[0], argv, {**ENVIRONMENT, "PS1": "READY> ", "LC_ALL": "C.UTF-8"})
        self.read_until(b"READY> ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, text):
        os.write(self._fd, text.encode())

    def read_until(self, end):
        said, deadline = b"", time.monotonic() + PATIENCE
        while end not in said:
            ready, _, _ = select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no {end!r} in {said!r}"
            said += os.read(self._fd, 65536)
        return said

    def complete(self, line, wanted):
        """Type `line` and a tab, until what is wanted is there, and drop it again."""
        self.type(f"{line}\t")
        self.read_until(wanted.removeprefix(line).encode())
        self.type("\x15")


def test_bash_on_a_terminal(there):
    with Terminal(["bash", "--norc", "-i"], there) as shell:
        shell.type("bind 'set enable-bracketed-paste off'; source <(kvfs completion bash)\n")
        shell.read_until(b"\n")
        shell.read_until(b"READY> ")
        for line, wanted in [*CASES, ("kvfs get s 'conf ig/a", "kvfs get s 'conf ig/a b' ")]:
            shell.complete(line, wanted)


def test_zsh_on_a_terminal(there):
    with Terminal(["zsh", "-f", "-i"], there) as shell:
        shell.type(
            "zle_highlight=(none); autoload -U compinit; compinit -u -D; source <(kvfs completion zsh)\n"
        )
        shell.read_until(b"\n")
        shell.read_until(b"READY> ")
        for line, wanted in CASES:
            shell.complete(line, wanted)


def bash(there, line, word):
    """Return the replies of the function that bash calls for `line`, of which it replaces `word`."""
    script = """source <(kvfs completion bash)
COMP_LINE=$1 COMP_POINT=${#1}
_kvfs_completion kvfs "$2"
printf '%s\\0' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script, "bash", line, word],
        cwd=there,
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b""
    return [os.fsdecode(reply) for reply in done.stdout.split(b"\0")[:-1]]


def test_bash_replaces_the_word_that_it_sees(there):
    assert bash(there, "kvfs get s config/", "config/") == ["config/host", "config/port"]
    assert bash(there, "kvfs get s a:b=", "") == ["c"]
    assert bash(there, "kvfs get s 'conf i", "conf i") == ["conf ig/"]
    assert bash(there, "kvfs get s ", "") == [
        *("a:b=c", "conf\\ ig/", "config/", "it\\'s", "new$'\\n'line", 'x\\"y\\$z\\!'),
    ]
    assert bash(there, "kvfs get none ", "") == [""]
    assert bash(there, "kvfs stat ", "") == [""]  # bash looks for directories itself


def test_fish(there):
    def complete(line):
        script = "kvfs completion fish | source; complete -C $argv[1]; true"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script, line],
            cwd=there,
            env={**ENVIRONMENT, "HOME": str(there)},
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == b""
        return done.stdout.decode().removesuffix("\n")

    assert complete("kvfs get s config/") == "config/host\nconfig/port"
    assert complete("kvfs get s conf\\ ig/") == "conf ig/a b"
    assert complete("kvfs get s 'conf i") == "conf ig/"
    assert complete("kvfs get s ne") == "new\nline"
    assert complete("kvfs get s it") == "it's"
    assert complete("kvfs get none ") == ""
    assert complete("kvfs che") == "check\tRead and verify everything."
    assert complete("kvfs stat ot") == "other/\tDirectory"
    assert complete("kvfs undo s --to b") == "before"


def test_a_mount_is_asked_itself(stores, monkeypatch):
    store = stores.make()
    store.run("mkdir d; echo 1 > d/a; ln -s a d/link; mkfifo d/fifo; mkdir d/below")
    store.cli("put", store.store, "d//e", "1", ok=True)
    line = f"kvfs get {store.store} d/"
    assert bash(stores.directory, line, "d/") == ["d//", "d/a", "d/below/"]
    assert bash(stores.directory, f"kvfs get {store.store} d//", "d//") == ["d//e"]
    assert bash(stores.directory, f"kvfs get {store.store} ../", "../") == [""]
    assert bash(stores.directory, f"kvfs get {store.store} /", "/") == [""]

    def replay(*_, **__):
        pytest.fail("the log was read")

    monkeypatch.setattr("kvfs.store.open_store", replay)
    found = candidates.keys(str(store.store), "d/")
    assert [item.value for item in found] == ["d//", "d/a", "d/below/"]


def test_mountpoints(stores):
    store = stores.make()
    whole = str(store.path)
    assert bash(stores.directory, f"kvfs unmount {whole[:-1]}", whole[:-1]) == [whole]
    assert bash(stores.directory, "kvfs unmount m", "m") == ["mnt"]
