"""A mount of the kernel's: /dev/fuse, mounted at a directory.

As root by mount(2), else by fusermount3, which hands over the descriptor
(libfuse, lib/mount_util.c and util/fusermount.c, has the rules).
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import subprocess
from typing import NamedTuple, Self

from kvfs.errors import MountError

DEVICE = "/dev/fuse"
_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024}
"""Options that are flags of mount(2), MS_RDONLY and so on."""
_OPPOSITES = {"rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime"}
_USUAL = ("nosuid", "nodev")
_INT = struct.Struct("i")
_libc = ctypes.CDLL(None, use_errno=True)


class Connection(NamedTuple):
    """The descriptor of a mounted /dev/fuse, and where it is mounted."""

    fd: int
    mountpoint: str

    @classmethod
    def mount(cls, mountpoint: str, source: str, subtype: str, options: set[str]) -> Self:
        """Mount at the directory `mountpoint`.

        `source` and `subtype` are what the table of mounts shows. `options` are
        those of `_FLAGS` and their opposites, and those of FUSE itself.

        Raises `MountError` with what the system says.
        """
        flags = {flag for flag in _USUAL if flag not in {_OPPOSITES.get(o) for o in options}}
        flags |= {option for option in options if option in _FLAGS}
        own = options - _FLAGS.keys() - _OPPOSITES.keys()
        if os.geteuid() == 0:
            return cls(_mount(mountpoint, source, subtype, flags, own), mountpoint)
        words = [f"fsname={source}", f"subtype={subtype}", *sorted(flags | own)]
        return cls(_ask_for_mount(mountpoint, ",".join(words)), mountpoint)

    def close(self) -> None:
        """Let go of the device: a mount that is still there answers nobody any more."""
        os.close(self.fd)


def _mount(mountpoint: str, source: str, subtype: str, flags: set[str], own: set[str]) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        mode = stat.S_IFMT(os.stat(mountpoint).st_mode)
    except OSError as error:
        raise _refused(mountpoint, error.strerror or str(error)) from None
    words = [f"fd={fd}", f"rootmode={mode:o}", f"user_id={os.getuid()}", f"group_id={os.getgid()}"]
    failed = _libc.mount(
        os.fsencode(source),
        os.fsencode(mountpoint),
        f"fuse.{subtype}".encode(),
        ctypes.c_ulong(sum(_FLAGS[flag] for flag in flags)),
        ",".join([*words, *sorted(own)]).encode(),
    )
    if failed:
        reason = os.strerror(ctypes.get_errno())
        os.close(fd)
        raise _refused(mountpoint, reason)
    return fd


def _ask_for_mount(mountpoint: str, options: str) -> int:
    """Let fusermount3 mount, and take the descriptor that it sends back."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            done = subprocess.run(  # noqa: S603 - our own words
                ["fusermount3", "-o", options, "--", mountpoint],  # noqa: S607 - where it is installed
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                capture_output=True,
                text=True,
                check=False,
            )
        _, ancillary, *_ = ours.recvmsg(1, socket.CMSG_LEN(_INT.size))
    if done.returncode or not ancillary:
        raise _refused(mountpoint, " ".join(done.stderr.split()) or "fusermount3 failed")
    (fd,) = _INT.unpack(ancillary[0][2])
    os.set_inheritable(fd, False)
    return int(fd)


def _refused(mountpoint: str, reason: str) -> MountError:
    return MountError(f"cannot mount at {mountpoint}: {reason}")
