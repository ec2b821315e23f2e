"""Where passthrough_ll comes from: its source in libfuse's package, compiled here.

An image without documentation may have the package and not its examples; then apt-get can fetch the
package once more, to be unpacked only.
"""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path

from processes import Failure, run

_SOURCES = ("passthrough_ll.c", "passthrough_helpers.h")
_PLACES = (
    "usr/share/doc/libfuse3-dev/examples",
    "usr/share/doc/fuse3-devel/example",
    "usr/share/doc/packages/fuse3-devel/example",
    "usr/share/doc/fuse3/example",
)


def build(tools: Path) -> Path:
    """Return the program, compiled once in `tools`. Raises `Failure`."""
    program = tools / "passthrough_ll"
    if program.exists():
        return program
    folder = tools / "libfuse"
    folder.mkdir(exist_ok=True)
    if not _collect(Path("/"), folder) and not _collect(_download(folder), folder):
        raise Failure("the examples of libfuse are not there; install libfuse3-dev")
    flags = shlex.split(run(["pkg-config", "--cflags", "--libs", "fuse3"]))
    run(["gcc", "-O2", "-o", program, folder / _SOURCES[0], *flags])
    return program


def _collect(root: Path, folder: Path) -> bool:
    """Copy the sources to `folder`, unpacked; tell whether all of them are there."""
    for name in _SOURCES:
        for place in _PLACES:
            plain, packed = root / place / name, root / place / f"{name}.gz"
            if plain.exists():
                (folder / name).write_bytes(plain.read_bytes())
            elif packed.exists():
                (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
    return all((folder / name).exists() for name in _SOURCES)


def _download(folder: Path) -> Path:
    unpacked = folder / "package"
    try:
        run(["apt-get", "download", "libfuse3-dev"], cwd=folder, seconds=120)
        run(["dpkg-deb", "-x", next(folder.glob("*.deb")), unpacked])
    except (Failure, StopIteration):
        pass
    return unpacked
