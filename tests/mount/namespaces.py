"""Shell scripts with mounts of their own, where kvfs is installed and files of the machine are others.

mount(8) looks for helpers in /sbin alone, and for the rest in /etc; a private mount
namespace has both as a test wants them, and nothing of the machine is changed.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HELPER = Path(sys.executable).parent / "mount.fuse.kvfs"
_FOR_ALL = 0o005
_BEGIN = """
set -eu
cd "$T"
# An /sbin with all that is in the old one, and the helper.
mkdir machine sbin
mount --bind /usr/sbin machine
for program in "$T"/machine/*; do ln -s "$program" sbin/; done
ln -sf "$HELPER" sbin/mount.fuse.kvfs
mount --bind sbin /usr/sbin
# kvfs and Python where any user may read them, whoever they belong to.
bind_all() { local n=0; while read -r path; do n=$((n + 1)); "$1" "$T/needed$n" "$path"; done <<<"$NEEDED"; }
aside() { mkdir "$1"; mount --bind "$2" "$1"; }
back() { mkdir -p "$2"; mount --bind "$1" "$2"; }
if [ -n "$CLOSED" ]; then
    bind_all aside
    while read -r path; do mount -t tmpfs -o mode=755 opened "$path"; done <<<"$CLOSED"
    bind_all back
fi
# A device that any user may open, as udev makes it.
mkdir devices
mount -t tmpfs devices devices
mknod -m 666 devices/fuse c 10 229
mount --bind devices/fuse /dev/fuse
for file in fstab fuse.conf; do if [ -e $file ]; then mount --bind $file /etc/$file; fi; done
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
kvfs() { "$PYTHON" -m kvfs "$@"; }
"""


def run(script, directory, *, fails=0):
    """Run `script` in `directory`/private, with `fstab` and `fuse.conf` from there; return what it printed.

    Standard error is printed with the rest.
    """
    needed = [path for path in (ROOT, Path(sys.base_prefix)) if _closed(path)]
    closed = {_closed(path) for path in needed}
    known = {"T": directory, "HELPER": HELPER}
    known |= {
        name: "\n".join(map(str, paths)) for name, paths in (("NEEDED", needed), ("CLOSED", closed))
    }
    known |= {"PYTHON": sys.executable}
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "slave", "bash", "-c", _BEGIN + script],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env=os.environ | {name: str(value) for name, value in known.items()},
    )
    assert done.returncode == fails, done.stdout
    return done.stdout


def _closed(path):
    """Return the topmost directory above `path` that not all users may enter, if any."""
    above = reversed(path.parents)
    return next((one for one in above if one.stat().st_mode & _FOR_ALL != _FOR_ALL), None)
