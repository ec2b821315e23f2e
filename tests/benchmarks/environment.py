"""What a sitting ran on: the machine, the versions of everything, and what the disk is like."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from juicefs_peer import redis_program
from processes import Failure, run
from scratch import cost_of_creating, file_system, has_journal, yard

if TYPE_CHECKING:
    from collections.abc import Callable

_REPOSITORY = Path(__file__).resolve().parents[2]


def made() -> str:
    """Return the time of now, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def machine(scratch: Path) -> dict[str, object]:
    """Return what is known about the machine and its programs, by names fit to be shown."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "file system": _file_system(scratch),
        "Python": platform.python_version(),
        "kvfs": _said(["git", "-C", _REPOSITORY, "describe", "--always", "--dirty"]),
        "libfuse": _said(["pkg-config", "--modversion", "fuse3"]),
        "gcc": _said(["gcc", "-dumpfullversion"]),
        "bash": _said(["bash", "-c", 'echo "$BASH_VERSION"']),
        "git": _said(["git", "version"]).removeprefix("git version "),
        "JuiceFS": _juicefs(),
        "Redis": _redis(),
        "root": os.geteuid() == 0,
        "load at the start": round(os.getloadavg()[0], 2),
    }


def block_groups(scratch: Path) -> dict[str, float]:
    """Return what making a file costs in a rather empty group of ext4, and where `scratch` is."""
    near = cost_of_creating(scratch.parent)
    with yard(scratch, "groups", ["probe"]) as backing:
        apart = cost_of_creating(backing["probe"])
    return {"spread": round(apart, 1), "near": round(near, 1)}


def _file_system(scratch: Path) -> str:
    journal = {True: ", journal", False: ", no journal", None: ""}[has_journal(scratch)]
    return file_system(scratch) + journal


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _said(words: list[object]) -> str:
    try:
        return run(words, seconds=30).strip().splitlines()[0]
    except (Failure, IndexError):
        return "unknown"


def _juicefs() -> str:
    beside = shutil.which(
        "juicefs", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    )
    return _said([beside or "juicefs", "version"]).removeprefix("juicefs version ")


def _redis() -> str:
    program = redis_program()
    if program is None:
        return "unknown"
    said = _said(["bash", "-c", 'exec -a redis-server "$0" --version', program])
    return next((word[2:] for word in said.split() if word.startswith("v=")), said)


def about(
    scratch: Path, peers: dict[str, dict], counts: object, say: Callable[[str], None]
) -> dict[str, object]:
    """Return the head of the results of a sitting."""
    disk = block_groups(scratch)
    say(f"making a file costs {disk['spread']} us here, {disk['near']} us in {scratch.parent}")
    return {
        "made": made(),
        "counts": counts,
        "machine": {**machine(scratch), "block groups": disk},
        "peers": peers,
    }
