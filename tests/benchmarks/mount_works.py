"""The works on a mount, as scenarios: steps that follow each other on one fresh place.

A step measures one work, or prepares what others need. The steps that make the files of a scenario
always run; the others only if their work is asked for. "First" means after `Place.renew`; "again"
means once more after that, without touching anything in between.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from source_tree import write_archive
from works import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mounts import Place
    from works import Counts

_GIT = (
    "export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=1"
    " GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n"
)


class Step(NamedTuple):
    """What is done, and the work that it measures, if any; `needed` by the steps after it."""

    work: str | None
    act: Callable[[Place], float | None]
    needed: bool = False


class Scenario(NamedTuple):
    """A group of works and its steps."""

    group: str
    steps: list[Step]

    def works(self) -> set[str]:
        return {step.work for step in self.steps if step.work}

    def wanted(self, works: frozenset[str]) -> Iterator[Step]:
        """Yield the steps that must run to measure `works`, in order."""
        last = max(number for number, step in enumerate(self.steps) if step.work in works)
        for step in self.steps[: last + 1]:
            if step.needed or step.work in works:
                yield step


def scenarios(counts: Counts, tools: Path) -> list[Scenario]:
    """Return all scenarios; what they need besides a place is made in `tools`."""
    archive = tools / "source.tar"
    write_archive(archive, counts.tree)
    return [
        Scenario("files", _files(counts.files)),
        Scenario("listing", _listing(counts.entries, counts.listings)),
        Scenario("shell", _shell(counts.shell, counts.spawns)),
        Scenario("tree", _tree(archive)),
        Scenario("streams", _streams(counts.stream)),
        Scenario("random", _random(counts.random_file, counts.random_reads)),
        Scenario("fsync", _fsync(counts)),
    ]


def _each(operation: str, count: int, *, first: bool = False, **asked: object):
    """Return an act: `operation` on `count` files, in microseconds a file."""

    def act(place: Place) -> float:
        if first:
            place.renew()
        return place.client(operation, count=count, **asked) / count * 1e6

    return act


def _repeated(operation: str, count: int, **asked: object):
    """Return an act that does the operation twice, and measures it the second time."""

    def act(place: Place) -> float:
        place.client(operation, count=count, **asked)
        return _each(operation, count, **asked)(place)

    return act


def _files(count: int) -> list[Step]:
    """Make all files before any is removed, for which ext4 would make those after it pay."""
    small, large = {"prefix": "s", "size": 100}, {"prefix": "l", "size": 4096}
    return [
        Step("create-100", _each("create", count, **small), needed=True),
        Step("create-4k", _each("create", count, **large), needed=True),
        *_contents("100", count, small),
        *_contents("4k", count, large),
        Step("stat-first", _each("stat", count, first=True, prefix="s")),
        Step("stat-again", _repeated("stat", count, prefix="s")),
        Step("rename", _each("rename", count, prefix="s", to="r"), needed=True),
        Step("unlink", _each("unlink", count, prefix="r")),
    ]


def _contents(label: str, count: int, asked: dict) -> list[Step]:
    return [
        Step(f"read-first-{label}", _each("read", count, first=True, **asked)),
        Step(f"read-again-{label}", _repeated("read", count, **asked)),
        Step(f"overwrite-{label}", _each("overwrite", count, **asked)),
        Step(f"append-{label}", _each("append", count, **asked)),
    ]


def _listing(entries: int, times: int) -> list[Step]:
    # Not in the root, where JuiceFS has files of its own.
    folder = "entries"

    def fill(place: Place) -> None:
        (place.path / folder).mkdir()
        place.client("create", folder=folder, prefix="e", count=entries, size=0)

    def first(place: Place) -> float:
        place.renew()
        return place.client("readdir", folder=folder, count=entries, times=1) * 1e3

    def again(place: Place) -> float:
        place.client("readdir", folder=folder, count=entries, times=1)
        return place.client("readdir", folder=folder, count=entries, times=times) / times * 1e3

    return [
        Step(None, fill, needed=True),
        Step("readdir-first", first),
        Step("readdir-again", again),
    ]


def _loop(body: str, count: int):
    """Return an act: one bash that runs `body` for `count` files, in microseconds a file."""
    script = f"for ((i = 0; i < {count}; i++)); do f=f$i; {body}; done"

    def act(place: Place) -> float:
        return place.client("command", words=["bash", "-c", script]) / count * 1e6

    return act


def _shell(count: int, spawns: int) -> list[Step]:
    return [
        Step("shell-write", _loop('echo "value $i" >"$f"', count), needed=True),
        Step("shell-substitute", _loop('v=$(<"$f")', count)),
        Step("shell-read", _loop('read -r v <"$f"', count)),
        Step("shell-cat", _loop('cat "$f"', spawns)),
    ]


def _script(script: str, folder: str = ""):
    def act(place: Place) -> float:
        words = ["bash", "-ec", _GIT + script]
        return place.client("command", words=words, folder=folder) * 1e3

    return act


def _tree(archive: Path) -> list[Step]:
    def untar(place: Place) -> float:
        return place.client("command", words=["tar", "xf", str(archive)]) * 1e3

    add = "git init -q\ngit add -A\ngit status --porcelain"
    return [
        Step("untar", untar, needed=True),
        Step("git-add", _script(add, "source"), needed=True),
        Step("git-status", _script("git status --porcelain", "source")),
        Step("remove-tree", _script("rm -r source")),
    ]


def _streams(size: int) -> list[Step]:
    def rate(seconds: float) -> float:
        return size / seconds / 1e6

    def write(place: Place) -> float:
        os.sync()
        return rate(place.client("stream_write", name="stream", size=size))

    def cold(place: Place) -> float:
        place.renew()
        return rate(place.client("stream_read", name="stream", size=size))

    def cached(place: Place) -> float:
        place.client("stream_read", name="stream", size=size)
        return rate(place.client("stream_read", name="stream", size=size))

    return [
        Step("stream-write", write, needed=True),
        Step("stream-read-cold", cold),
        Step("stream-read-cached", cached),
    ]


def _random(size: int, reads: int) -> list[Step]:
    def fill(place: Place) -> None:
        place.client("stream_write", name="large", size=size // MIB * MIB)

    def read(place: Place) -> float:
        place.renew()
        return place.client("random_read", name="large", size=size, count=reads) / reads * 1e6

    return [Step(None, fill, needed=True), Step("random-read", read)]


def _fsync(counts: Counts) -> list[Step]:
    def writers(number: int, each: int):
        def act(place: Place) -> float:
            asked = {"prefix": f"w{number}-", "writers": number, "each": each, "size": 100}
            return place.client("fsync", **asked) / (number * each) * 1e6

        return act

    return [
        Step("fsync-1", writers(1, counts.synced_alone)),
        Step("fsync-8", writers(counts.writers, counts.synced_each)),
    ]
