"""Mountpoints as the kernel sees them: which there are, and how to end one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote

from kvfs.errors import MountError

TYPE = "fuse.kvfs"
_MOST_LINKS = 40  # one after the other, as the kernel has it
_NAMED = 5  # users of a mount that a message names
_OCTAL = re.compile(r"\\([0-7]{3})")
_UNFIT = re.compile("[%,\\\\\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_USER = re.compile(r"(?:^|,)user_id=(\d+)")


class Mount(NamedTuple):
    """One mount of kvfs: where it is, the directory of its store, and its device number.

    `number` is that of the mount itself, `user` who made it.
    """

    mountpoint: str
    store: str
    device: int
    number: int
    read_only: bool
    user: int


def fsname(store: str) -> str:
    """Return the name of `store` as the mount shows it, reversible.

    It is the path as it is, so that mount(8) finds it in /etc/fstab, but for what
    fusermount3 takes for something else, and what is no text.
    """
    return _UNFIT.sub(lambda match: quote(match[0], safe="", errors="surrogateescape"), store)


def mounted() -> list[Mount]:
    """Return the mounts of kvfs that this process sees, the latest last."""
    mounts = []
    # Only a newline ends a line: names may hold any other character as it is.
    with open(
        "/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
    ) as file:
        for line in file.read().split("\n"):
            fields, _, rest = line.partition(" - ")
            kind, _, _ = rest.partition(" ")
            if kind == TYPE:
                mounts.append(_mount(fields.split(" "), rest.split(" ")))
    return mounts


def _mount(words: list[str], rest: list[str]) -> Mount:
    """Return what a line of mountinfo says, in `words` and, after its dash, in `rest`."""
    _, source, options = rest[:3]
    user = _USER.search(options)
    return Mount(
        mountpoint=_plain(words[4]),
        store=unquote(_plain(source), errors="surrogateescape"),
        device=os.makedev(*map(int, words[2].split(":"))),
        number=int(words[0]),
        read_only="ro" in options.split(","),
        user=int(user[1]) if user else 0,
    )


def find(mountpoint: str) -> Mount | None:
    """Return the mount of kvfs at `mountpoint`, the topmost if there are several."""
    path = place_of(mountpoint)
    return next((mount for mount in reversed(mounted()) if mount.mountpoint == path), None)


def place_of(path: str) -> str:
    """Return `path` without symbolic links, never asking a daemon that may not answer."""
    for _ in range(_MOST_LINKS):
        above, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(above), name)
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return path
    return path


def users_of(mount: Mount) -> list[tuple[int, str]]:
    """Return the processes that have something open in `mount`, or are in it: pid and name.

    Only those whose /proc may be read; nothing in the mount is asked. This process is left out.
    """
    found = []
    numbers = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    for pid in sorted(numbers - {os.getpid()}):
        with suppress(OSError):
            if _is_in(mount, pid) or _has_open(mount, pid) or _has_mapped(mount, pid):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    found.append((pid, file.read().strip()))
    return found


def _is_in(mount: Mount, pid: int) -> bool:
    places = (os.readlink(f"/proc/{pid}/{link}") for link in ("cwd", "root"))
    return any(f"{place}/".startswith(f"{mount.mountpoint}/") for place in places)


def _has_open(mount: Mount, pid: int) -> bool:
    wanted = f"mnt_id:\t{mount.number}\n"
    for number in os.listdir(f"/proc/{pid}/fdinfo"):
        with suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{number}") as file:
            if wanted in file.read():
                return True
    return False


def _has_mapped(mount: Mount, pid: int) -> bool:
    wanted = f" {os.major(mount.device):02x}:{os.minor(mount.device):02x} ".encode()
    with open(f"/proc/{pid}/maps", "rb") as file:
        return any(wanted in line for line in file)


def is_stale(mountpoint: str) -> bool:
    """Tell whether `mountpoint` was left behind by a daemon that is gone.

    The kernel may know its attributes still, so it is asked for its figures.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """End the mount at `mountpoint`.

    Raises `MountError` with what the system said.
    """
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), "--", mountpoint]
    else:
        tool = shutil.which("fusermount3")
        if tool is None:
            raise MountError("fusermount3 is not installed; install the package fuse3")
        command = [tool, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        reason = done.stderr.strip().splitlines()[:1] or ["it failed without a word"]
        if "busy" in reason[0]:
            raise MountError(_busy(mountpoint), errno.EBUSY)
        message = f"cannot unmount {mountpoint}: {reason[0]}"
        raise MountError(message)


def _busy(mountpoint: str) -> str:
    """Return the message that `mountpoint` is in use, and by whom."""
    mount = find(mountpoint)
    users = [f"{name} ({pid})" for pid, name in (users_of(mount) if mount else [])]
    if len(users) > _NAMED:
        users[_NAMED:] = [f"{len(users) - _NAMED} more"]
    whom = ", ".join(users) or "processes that you may not look at"
    lazily = f"kvfs unmount --lazy {mountpoint}"
    return f"cannot unmount {mountpoint}: it is busy, in use by {whom}; end that, or: {lazily}"


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def main() -> int:
    """Return 0 if the store of the first argument answers at the mountpoint of the second."""
    store, mountpoint = sys.argv[1:]
    mount = None if is_stale(mountpoint) else find(mountpoint)
    return int(mount is None or os.path.realpath(mount.store) != os.path.realpath(store))


if __name__ == "__main__":
    sys.exit(main())
