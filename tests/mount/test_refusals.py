"""Each way in which a mount cannot come about: one line that says why, and nothing is left behind."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from namespaces import run


@pytest.fixture
def made(stores):
    """Return a store that is not mounted, with a key."""
    made = stores.make(mount=False)
    made.cli("put", made.store, "a", "value", ok=True)
    return made


def locked(made, stores):
    other = stores.directory / "other"
    other.mkdir()
    made.mount()
    return ["mount", made.store, other], f"mounts it at {made.path}; end that with: kvfs unmount"


def damaged(made, stores):
    made.cli("put", made.store, "b", "another", ok=True)
    segment = made.store / "segments" / "00000001.seg"
    segment.write_bytes(segment.read_bytes().replace(b"value", b"VALUE"))
    shutil.rmtree(made.store / "checkpoints")
    return ["mount", made.store, made.path], "kvfs check"


def no_store(made, stores):
    (stores.directory / "empty").mkdir()
    return ["mount", stores.directory / "empty", made.path], "no kvfs store"


def missing_mountpoint(made, stores):
    return ["mount", made.store, made.path / "none"], "does not exist; make it with: mkdir -p"


def busy_mountpoint(made, stores):
    other = stores.make(name="other", mount=False)
    made.mount()
    return ["mount", other.store, made.path], f"has the store {made.store} mounted already"


def full_mountpoint(made, stores):
    (made.path / "file").touch()
    return ["mount", made.store, made.path], "is not empty"


def file_as_mountpoint(made, stores):
    (stores.directory / "file").touch()
    return ["mount", made.store, stores.directory / "file"], "is not a directory"


def mountpoint_in_the_store(made, stores):
    return ["mount", made.store, made.store / "quarantine"], "is inside the store"


def unknown_moment(made, stores):
    return ["mount", "-o", "at=never", made.store, made.path], "never"


def unknown_history(made, stores):
    return ["mount", "-o", "keep-history=much", made.store, made.path], "much"


@pytest.mark.parametrize("foreground", [[], ["-f"]], ids=["background", "foreground"])
@pytest.mark.parametrize(
    "way",
    [
        *(locked, damaged, no_store, missing_mountpoint, busy_mountpoint, full_mountpoint),
        *(file_as_mountpoint, mountpoint_in_the_store, unknown_moment, unknown_history),
    ],
    ids=lambda way: way.__name__,
)
def test_why_it_cannot_be_mounted_is_said(made, stores, tools, way, foreground):
    (verb, *words), wanted = way(made, stores)
    before = tools.mounts_below(stores.directory)
    said = made.cli(verb, *foreground, *words, fails=1).stderr.decode()
    assert wanted in said
    assert tools.mounts_below(stores.directory) == before


def test_no_device(tools):
    with tempfile.TemporaryDirectory() as name, tools.stores_below(Path(name)) as stores:
        os.chmod(name, 0o755)
        made = stores.make(mount=False)
        (stores.directory / "private").mkdir()
        script = f"""
            umount /dev/fuse
            mkdir empty; mount --bind empty /dev
            kvfs mount {made.store} {made.path}
            """
        out = run(script, stores.directory / "private", fails=1)
        assert (
            out == "kvfs: there is no /dev/fuse here: load the kernel module with: modprobe fuse\n"
        )
