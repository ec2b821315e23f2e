"""Mountpoints as the kernel sees them: which there are, and how to end one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple
from urllib.parse import quote, unquote

from kvfs.errors import MountError

TYPE = "fuse.kvfs"
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount of kvfs: where it is, the directory of its store, and its device number."""

    mountpoint: str
    store: str
    device: int


def fsname(store: str) -> str:
    """Return the name of `store` as the mount shows it: ASCII, no commas, reversible."""
    return quote(store, safe="/:@=+~!()", errors="surrogateescape")


def mounted() -> list[Mount]:
    """Return the mounts of kvfs that this process sees, the latest last."""
    mounts = []
    # Only a newline ends a line: names may hold any other character as it is.
    with open(
        "/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
    ) as file:
        for line in file.read().split("\n"):
            fields, _, rest = line.partition(" - ")
            kind, _, source = rest.partition(" ")
            if kind == TYPE:
                source = source.split(" ")[0]
                store = unquote(_plain(source), errors="surrogateescape")
                words = fields.split(" ")
                device = os.makedev(*map(int, words[2].split(":")))
                mounts.append(Mount(_plain(words[4]), store, device))
    return mounts


def find(mountpoint: str) -> Mount | None:
    """Return the mount of kvfs at `mountpoint`, the topmost if there are several."""
    path = os.path.realpath(mountpoint)
    return next((mount for mount in reversed(mounted()) if mount.mountpoint == path), None)


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
        hint = "; to see who uses it: fuser -vm " + mountpoint if "busy" in reason[0] else ""
        message = f"cannot unmount {mountpoint}: {reason[0]}{hint}"
        raise MountError(message)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def main() -> int:
    """Return 0 if the store of the first argument answers at the mountpoint of the second."""
    store, mountpoint = sys.argv[1:]
    mount = None if is_stale(mountpoint) else find(mountpoint)
    return int(mount is None or os.path.realpath(mount.store) != os.path.realpath(store))


if __name__ == "__main__":
    sys.exit(main())
