"""Checkpoints beside a mount: made by themselves, stood on after a crash, never in the way."""

import json
import os

import pytest

EVERY = ("--checkpoint-every", "20")


def checkpointed(mounted):
    stat = json.loads(mounted.cli("stat", "--json", mounted.store, ok=True).stdout)
    return stat["checkpointed"]


def fill(mounted, prefix, count=50):
    for number in range(count):
        (mounted.path / f"{prefix}{number}").write_text(f"value {prefix}{number}")


def test_a_crash_costs_no_replay_of_what_a_checkpoint_has(stores, tools):
    mounted = stores.make("binary", options=EVERY)
    fill(mounted, "a")
    tools.until(lambda: checkpointed(mounted) >= 20)
    mounted.kill()
    mounted.mount()
    assert {name: (mounted.path / name).read_text() for name in os.listdir(mounted.path)} == {
        f"a{number}": f"value a{number}" for number in range(50)
    }
    mounted.umount()


def test_a_clean_end_leaves_one_of_all(stores):
    mounted = stores.make("binary", options=EVERY)
    fill(mounted, "a")
    mounted.umount()
    assert checkpointed(mounted) == 50
    mounted.mount()


def test_names_in_a_checkpoint_and_names_since_are_listed_as_one(stores):
    """A directory of many blocks, changed while it is being listed."""
    mounted = stores.make("binary", options=EVERY)
    top = mounted.path / "d"
    top.mkdir()
    for number in range(2000):
        (top / f"{number:060}").touch()
    mounted.umount()
    mounted.mount()
    (top / f"{7:060}").unlink()
    (top / "new").touch()
    os.rename(top / "new", top / f"{8:060}")
    (top / "newer").touch()
    expected = {f"{number:060}" for number in range(2000)} - {f"{7:060}"} | {"newer"}
    with os.scandir(top) as entries:
        seen = [next(entries).name]
        gone = f"{1999:060}" if seen[0] != f"{1999:060}" else f"{1998:060}"
        (top / gone).unlink()
        (top / f"{9:060}").unlink()
        (top / f"{9:060}").touch()  # another file of the name
        os.rename(top / f"{10:060}", top / f"{11:060}")
        for entry in entries:
            assert entry.is_file()
            seen.append(entry.name)
    assert len(seen) == len(set(seen))
    assert set(seen) - expected == set()
    assert expected - set(seen) <= {gone, f"{9:060}", f"{10:060}"}
    now = expected - {gone, f"{10:060}"}
    assert set(os.listdir(top)) == now
    assert {entry.name for entry in os.scandir(top) if entry.stat().st_size == 0} == now
    mounted.remount()
    assert set(os.listdir(top)) == now


def test_nobody_is_left_behind(stores, tools):
    """Neither by a daemon that ends nor by one that is killed, while checkpoints are made."""
    mounted = stores.make("binary", options=("--checkpoint-every", "1"))
    fill(mounted, "a", 5)
    tools.until(lambda: checkpointed(mounted) > 0)
    fill(mounted, "b", 5)
    mounted.kill()
    tools.until(lambda: not _makers(mounted.store))
    mounted.mount(*EVERY)
    fill(mounted, "c", 30)
    mounted.umount()
    assert not _makers(mounted.store)


def _makers(store):
    """Return the processes that make a checkpoint of `store`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"kvfs.store.background" in words and os.fsencode(store) in words:
            found.append(pid)
    return found


def test_the_past_is_mounted_beside_the_present(stores, tmp_path):
    mounted = stores.make("binary", options=EVERY)
    fill(mounted, "a", 30)
    (mounted.path / "a0").unlink()
    (mounted.path / "a1").write_text("new")
    past = tmp_path / "past"
    past.mkdir()
    mounted.cli("mount", "--at", "29", mounted.store, past, ok=True)
    try:
        assert len(os.listdir(past)) == 30
        assert (past / "a1").read_text() == "value a1"
        with pytest.raises(OSError, match="Read-only"):
            (past / "a1").write_text("x")
        assert (mounted.path / "a1").read_text() == "new"
    finally:
        mounted.cli("unmount", past, ok=True)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_the_past_comes_back_through_the_mount(stores, form):
    mounted = stores.make(form)
    secret = mounted.path / "d" / "secret"
    secret.parent.mkdir()
    secret.write_text("hidden")
    secret.chmod(0o600)
    os.chown(secret, 7, 8)
    os.setxattr(secret, "user.n", b"v")
    (mounted.path / "changed").write_text("old")
    (mounted.path / ".kvfs/keys/=").write_text("no path")
    mounted.cli("snapshot", "create", mounted.store, "then", ok=True)
    secret.unlink()
    (mounted.path / "changed").write_text("new")
    os.chmod(mounted.path / "changed", 0o640)
    (mounted.path / "added").write_text("new")
    (mounted.path / ".kvfs/keys/=").unlink()
    done = mounted.cli("undo", mounted.store, "--to", "then", ok=True)
    assert done.stdout == b"brought back 3 keys, removed 1\n"
    assert secret.read_text() == "hidden"
    found = secret.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o600, 7, 8)
    assert os.getxattr(secret, "user.n") == b"v"
    assert (mounted.path / "changed").read_text() == "old"
    assert (mounted.path / "changed").stat().st_mode & 0o7777 == 0o644
    assert (mounted.path / ".kvfs/keys/=").read_text() == "no path"
    assert not (mounted.path / "added").exists()
    assert mounted.cli("diff", mounted.store, "then", ok=True).stdout == b""
