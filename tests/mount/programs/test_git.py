"""git on a mount: thousands of small files, links and renames, and every byte hashed."""

import os
import subprocess

import pytest

FILES = {"binary": 2000, "text": 500}
CONFIG = """[user]
    name = A
    email = a@example.org
[init]
    defaultBranch = main
[gc]
    autoDetach = false
[protocol "file"]
    allow = always
"""


@pytest.fixture(autouse=True)
def config(home):
    (home / ".gitconfig").write_text(CONFIG)


def git(where, *args, fails=0):
    done = subprocess.run(
        ["git", *args], cwd=where, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == fails, done
    return done.stdout


def sound(where):
    """Check objects, index and work tree, without and with a refresh of the index."""
    checked = subprocess.run(
        ["git", "fsck", "--strict", "--full", "--no-dangling"],
        cwd=where,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.stdout == ""
    # Notices and progress aside, nothing is said of a sound repository.
    assert not [line for line in checked.stderr.splitlines() if "error" in line or "warn" in line]
    return git(where, "status", "--porcelain") == ""


def generate(top, count):
    for number in range(count):
        directory = top / f"d{number % 50}" / f"e{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_text(f"file {number}\n" * (number % 20))


def stats(top):
    """Return what git keeps of each file in its index, to see whether it changed."""
    found = {}
    for directory, _, files in os.walk(top):
        for name in files:
            info = os.lstat(os.path.join(directory, name))
            found[os.path.join(directory, name)] = (
                *info[:2],
                *info[3:7],
                info.st_mtime_ns,
                info.st_ctime_ns,
            )
    return found


def repository(top, count):
    top.mkdir()
    git(top, "init", "-q")
    generate(top, count)
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "one")
    return top


def test_a_repository_of_thousands_of_files(mounted):
    count = FILES[mounted.form]
    top = repository(mounted.path / "r", count)
    assert len(git(top, "ls-files").splitlines()) == count
    git(top, "checkout", "-q", "-b", "side")
    for number in range(1, 200, 2):
        next(top.glob(f"d{number % 50}/e*/f{number}")).write_text("side\n")
    git(top, "mv", "d10", "moved")
    git(top, "rm", "-q", "-r", "d2")
    git(top, "commit", "-q", "-a", "-m", "two")
    git(top, "checkout", "-q", "main")
    assert (top / "d10").is_dir()
    assert (top / "d2").is_dir()
    (top / "more").write_text("more\n")
    git(top, "add", "more")
    git(top, "commit", "-q", "-m", "three")
    git(top, "merge", "-q", "--no-edit", "side")
    assert not (top / "d10").exists()
    assert (top / "more").read_text() == "more\n"
    git(top, "gc", "-q", "--prune=now")
    git(top, "repack", "-q", "-a", "-d", "-f")
    assert sound(top)
    git(top, "update-index", "--really-refresh")
    tree, before = git(top, "write-tree"), stats(top)

    mounted.remount()
    if mounted.form == "binary":  # the other keeps no times
        assert stats(top) == before
        assert git(top, "diff-files") == ""  # which believes the stat data in the index
    assert sound(top)
    assert git(top, "write-tree") == tree
    git(top, "checkout", "-q", "main~1")
    assert (top / "d10").is_dir()
    git(top, "checkout", "-q", "main")
    assert git(top, "rev-list", "--count", "HEAD") == "4\n"
    assert sound(top)


def test_clones_in_every_direction(binary, tmp_path):
    here = repository(binary.path / "origin", 100)
    there = tmp_path / "origin"
    git(tmp_path, "clone", "-q", here, there)
    clones = []
    for source in (here, there):
        for place in (binary.path, tmp_path):
            for how, address in (("links", str(source)), ("file", f"file://{source}")):
                clone = place / f"{how} from {source.parent.name}"
                git(place, "clone", "-q", address, clone)
                clones.append(clone)
    linked = binary.path / f"links from {binary.path.name}"
    name = git(here, "rev-parse", "HEAD").strip()
    loose = f".git/objects/{name[:2]}/{name[2:]}"
    assert (linked / loose).samefile(here / loose)

    binary.remount()
    for clone in clones:
        assert sound(clone), clone
        assert git(clone, "rev-parse", "HEAD").strip() == name
    assert sound(here)


def test_pushing_to_a_bare_repository(binary, tmp_path):
    local = repository(tmp_path / "local", 50)
    git(binary.path, "init", "-q", "--bare", "bare.git")
    git(local, "remote", "add", "bare", binary.path / "bare.git")
    for turn in range(3):
        (local / "turn").write_text(str(turn))
        git(local, "add", "turn")
        git(local, "commit", "-q", "-m", str(turn))
        git(local, "push", "-q", "bare", "main")
    binary.remount()
    bare = binary.path / "bare.git"
    assert git(bare, "fsck", "--strict", "--full") == ""
    assert git(bare, "rev-parse", "main") == git(local, "rev-parse", "main")


def test_stash_worktree_and_reset(binary):
    top = repository(binary.path / "r", 100)
    changed = next(top.glob("d3/e3/*"))
    original = changed.read_text()
    changed.write_text("changed\n")
    (top / "untracked").write_text("untracked\n")
    git(top, "stash", "push", "-q", "--include-untracked")
    assert changed.read_text() == original
    assert not (top / "untracked").exists()
    binary.remount()
    git(top, "stash", "pop", "-q")
    assert changed.read_text() == "changed\n"
    assert (top / "untracked").read_text() == "untracked\n"

    git(top, "worktree", "add", "-q", "-b", "other", binary.path / "other")
    (binary.path / "other" / "new").write_text("new\n")
    git(binary.path / "other", "add", "new")
    git(binary.path / "other", "commit", "-q", "-m", "other")
    binary.remount()
    assert git(binary.path / "other", "status", "--porcelain") == ""
    git(top, "worktree", "remove", binary.path / "other")
    assert not (binary.path / "other").exists()
    assert git(top, "show", "other:new") == "new\n"
    git(top, "reset", "-q", "--hard")
    git(top, "clean", "-q", "-f", "-d")
    assert sound(top)
