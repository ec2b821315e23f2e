"""The source tree that is unpacked, put under git and removed: the same bytes on every machine."""

from __future__ import annotations

import io
import random
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = 20  # files
_MADE = 1_700_000_000  # the time that all of it has
_WORDS = "def return self value for in if not key store read write node none true class".split()


def write_archive(path: Path, files: int) -> None:
    """Write a tar file with `files` text files of about 3 KB each below `source/`."""
    if path.exists():
        return
    chance = random.Random(11)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "source", None)
        for number in range(files):
            folder = f"source/part{number // _FOLDER:03d}"
            if number % _FOLDER == 0:
                _add(archive, folder, None)
            _add(archive, f"{folder}/module{number:05d}.py", _text(chance))


def _text(chance: random.Random) -> bytes:
    lines = (" ".join(chance.choices(_WORDS, k=8)) for _ in range(chance.randrange(10, 130)))
    return "\n".join(lines).encode() + b"\n"


def _add(archive: tarfile.TarFile, name: str, content: bytes | None) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = _MADE
    entry.mode = 0o755 if content is None else 0o644
    if content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content or b""))
