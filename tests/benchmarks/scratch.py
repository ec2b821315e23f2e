"""The directory that a sitting works in: made on a real disk, and gone afterwards.

It must be on a disk, not in memory, with enough room. ext4 puts a new directory into the block
group of its parent, and what it costs to make a file there depends on what else was done in that
group: without a journal, ext4 passes over every inode that was freed within the last minutes, one
by one, which can cost ten times what the file does. So `yard` makes the directories of all peers
beside each other at one time, below a directory with the attribute T of chattr: each gets a group
of its own that is rather empty, and no peer pays for what another has removed. ext4 chooses it by
the name, so names are new each time.
"""

from __future__ import annotations

import array
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from processes import Failure, mark, mounts_below, sweep
from works import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HERE = Path(__file__).resolve().parent
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_GET_FLAGS, _SET_FLAGS, _TOP_DIRECTORY = 0x80086601, 0x40086602, 0x00020000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` is on."""
    best = ("", "unknown")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            point = fields.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            # The last of several mounts at one place is the one that is seen.
            if path.is_relative_to(point) and len(point) >= len(best[0]):
                best = (point, rest.split(" ")[0])
    return best[1]


def place(wanted: Path | None, needed: int) -> Path:
    """Return the directory to work below: `wanted`, or one on the disk of the repository.

    Raises `Mistake` if it will not do.
    """
    path = wanted or Path(tempfile.gettempdir())
    if wanted is None and os.stat(path).st_dev != os.stat(_HERE).st_dev:
        path = _HERE
    path = path.resolve()
    if not path.is_dir():
        raise Mistake(f"the scratch directory {path} is not there")
    if (kind := file_system(path)) in _IN_MEMORY:
        raise Mistake(f"{path} is on {kind}, not on a disk; choose another with --scratch")
    free = shutil.disk_usage(path).free
    if free < needed:
        shown = f"{free / 2**30:.1f} GiB free, {needed / 2**30:.1f} GiB are needed"
        raise Mistake(f"{path} has {shown}; choose another with --scratch")
    if not os.access(path, os.W_OK | os.X_OK):
        raise Mistake(f"nothing can be made in {path}; choose another with --scratch")
    return path


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Give a new directory below `parent`; end all that was started for it, and remove it."""
    path = Path(tempfile.mkdtemp(prefix="kvfs-benchmark-", dir=parent))
    try:
        mark(path)
        yield path
    finally:
        # Cleaning up is not interrupted by a second Ctrl-C.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
        os.chdir("/")
        left = sweep(path)
        remove(path)
        for number, handler in before.items():
            signal.signal(number, handler)
        if left or path.exists():
            raise Failure(f"this is left behind: {', '.join([*left, str(path)])}")


def spread(path: Path) -> bool:
    """Have ext4 spread the directories made in `path`, like `chattr +T`; tell whether it does."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        flags[0] |= _TOP_DIRECTORY
        fcntl.ioctl(fd, _SET_FLAGS, flags)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def yard(parent: Path, name: str, peers: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Give each peer a directory beside those of the others, all made now; remove them after."""
    top = parent / name
    top.mkdir()
    spread(top)
    backing = {peer: top / f"{peer}-{secrets.token_hex(4)}" for peer in peers}
    for path in backing.values():
        path.mkdir()
    try:
        yield backing
    finally:
        remove(top)


def remove(top: Path) -> None:
    """Remove a tree, unless something is mounted in it, which is for `sweep` first."""
    if not mounts_below(top):
        shutil.rmtree(top, ignore_errors=True)


def drop_caches() -> bool:
    """Have the kernel forget all file data that it can; only root may."""
    os.sync()
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    return False


def evict(directory: Path) -> None:
    """Have the kernel forget the data of the files below `directory`, as far as anyone may."""
    for folder, _, files in os.walk(directory):
        for name in files:
            with suppress(OSError):
                fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def has_journal(path: Path) -> bool | None:
    """Tell whether the ext4 that `path` is on has a journal; None if it cannot be told."""
    number = os.stat(path).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    about = Path("/sys/fs/ext4") / device
    return (about / "journal_task").exists() if about.is_dir() else None


def cost_of_creating(directory: Path, count: int = 500) -> float:
    """Return the microseconds that an empty file takes to make in a new directory of `directory`.

    It is what the block group of that directory costs.
    """
    with tempfile.TemporaryDirectory(prefix="kvfs-benchmark-", dir=directory) as folder:
        names = [os.path.join(folder, f"f{number:06d}") for number in range(count)]
        start = time.perf_counter()
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        return (time.perf_counter() - start) / count * 1e6
