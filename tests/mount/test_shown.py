"""-o uid=, gid=, umask=: what all nodes show, in every answer, and what of that is kept: nothing."""

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


@pytest.fixture
def made(tools):
    """Return a store, not mounted, where all users may come, with a node of each kind in it."""
    with tempfile.TemporaryDirectory() as place, tools.stores_below(Path(place)) as stores:
        os.chmod(place, 0o755)
        made = stores.make()
        made.run(
            "mkdir d; echo 1 > d/f; ln -s f d/l; mkfifo d/p; chown -h 7:8 d d/*; chmod 4751 d/f"
        )
        made.run("mkdir .kvfs/snapshots/s; touch d/f")
        made.umount()
        yield made


def shown(top):
    """Return owner, group and mode of all below `top`, as stat and as listings have them."""
    return {
        (status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode)))
        for directory, names, files in os.walk(top)
        for path in (directory, *(os.path.join(directory, name) for name in names + files))
        for status in [os.lstat(path)]
    }


PLACES = ["d", ".kvfs", ".kvfs/at/3", ".kvfs/snapshots", ".kvfs/history"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("first", ["stat", "list"])
def test_all_nodes_show_the_same_now_and_then(made, place, first):
    made.mount("-o", "uid=1234,gid=5678,umask=027")
    if first == "list":
        made.run(f"ls -la {place} > /dev/null")
    found = shown(made.path / place)
    if place == ".kvfs":
        found.remove((os.geteuid(), os.getegid(), "0o400"))  # `changes`, which tells of all nodes
    assert found == {(1234, 5678, "0o750")}
    kinds = {name: stat.S_IFMT(os.lstat(made.path / "d" / name).st_mode) for name in "flp"}
    assert kinds == {"f": stat.S_IFREG, "l": stat.S_IFLNK, "p": stat.S_IFIFO}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("uid=5", (5, 8, 0o4751)),
        ("gid=5", (7, 5, 0o4751)),
        ("umask=0", (7, 8, 0o777)),
        ("uid=0,umask=777", (0, 8, 0)),
    ],
)
def test_each_option_changes_only_what_it_is_about(made, options, wanted):
    made.mount("-o", options)
    found = os.stat(made.path / "d/f")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == wanted


def test_what_is_made_shows_it_at_once_and_keeps_what_it_has(made):
    made.mount("-o", "uid=1234,umask=022")
    with open(made.path / "new", "x") as file:
        assert os.fstat(file.fileno()).st_uid == 1234
    made.run("mkdir dir; ln -s a link; mkfifo fifo; ln new hard; truncate -s 9 new")
    for name in ("new", "dir", "link", "fifo", "hard"):
        found = os.lstat(made.path / name)
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1234, 0o755)
    made.remount()
    assert os.stat(made.path / "new").st_uid == 0
    assert stat.S_IMODE(os.stat(made.path / "new").st_mode) == 0o644
    assert stat.S_IMODE(os.stat(made.path / "d/f").st_mode) == 0o4751
    assert os.stat(made.path / "d/f").st_uid == 7


def test_chmod_and_chown_are_kept_and_not_shown(made):
    made.mount("-o", "uid=1234,gid=1,umask=077")
    os.chmod(made.path / "d/f", 0o640)
    os.chown(made.path / "d/f", 20, 30)
    assert shown(made.path / "d") == {(1234, 1, "0o700")}
    made.remount()
    found = os.stat(made.path / "d/f")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (20, 30, 0o640)


def test_what_is_shown_is_what_counts(made):
    made.mount("-o", "allow_other,uid=65534,umask=077")
    act = "cat d/f; echo 2 > d/f; echo 3 > d/new; cat .kvfs/at/3/d/f; ls .kvfs/history/d/f | wc -l"
    done = subprocess.run(
        ["sh", "-ec", act], cwd=made.path, capture_output=True, check=False, timeout=30, **NOBODY
    )
    assert (done.stderr, done.stdout.splitlines()[:2]) == (b"", [b"1", b"1"])
    other = {"user": 7, "group": 8, "extra_groups": []}
    refused = subprocess.run(
        ["cat", made.path / "d/f"], cwd="/", capture_output=True, check=False, timeout=30, **other
    )
    assert b"Permission denied" in refused.stderr


@pytest.mark.parametrize("act", ["echo 2 >> d/f", ": > d/f", "echo 3 1<> d/f"])
def test_a_set_id_bit_that_is_not_shown_goes_with_a_write(made, act):
    """Or what a user wrote would run as the owner of the file on the next mount."""
    made.mount("-o", "allow_other,uid=65534,umask=022")
    subprocess.run(["sh", "-ec", act], cwd=made.path, check=True, timeout=30, **NOBODY)
    made.remount()
    assert oct(stat.S_IMODE(os.stat(made.path / "d/f").st_mode)) == "0o751"
