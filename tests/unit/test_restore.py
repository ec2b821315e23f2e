"""The past comes back as new changes: values, owners, modes, extended attributes; nothing else."""

import os
import stat

import pytest
from click.testing import CliRunner

import kvfs
from kvfs.cli.main import cli
from kvfs.records import Attrs
from kvfs.store import snapshots


@pytest.fixture(params=["binary", "text"])
def path(request, tmp_path):
    """Return a store with a snapshot `then`, and what came later."""
    path = str(tmp_path / "store")
    with kvfs.open(path, format=request.param) as store:
        for key in ("same", "changed", "gone", "d/gone", "secret", "", "moded"):
            store.put(key, f"old {key}")
        node = store._core.table.find(b"secret")
        store.files.setattr(node, Attrs(mode=0o600, uid=7))
        store.files.setxattr(node, b"user.kept", b"1")
        snapshots.create(path, "then")
        store.put("changed", "new")
        store.files.setattr(store._core.table.find(b"moded"), Attrs(mode=0o640))
        for key in ("gone", "d/gone", "secret", ""):
            store.delete(key)
        store.put("added", "new")
        store.put("d", "in the way of nobody")
    return path


def run(*words, code=0):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == code, result.output
    return result.stdout


def values(path, at=None):
    with kvfs.open(path, read_only=True, at=at) as store:
        return dict(store.items())


def looks(path, at=None):
    with kvfs.open(path, read_only=True, at=at) as store:
        return {key: store.look_of(key) for key in store}


def test_keys_come_back(path):
    before = values(path)
    run("restore", path, "changed", "secret", "--at", "then")
    after = values(path)
    assert after == {**before, b"changed": b"old changed", b"secret": b"old secret"}
    look = looks(path)[b"secret"]
    assert look == (0o600, 7, os.getgid(), {b"user.kept": b"1"})


def test_all_comes_back_and_can_be_undone_itself(path):
    before, looked = values(path), looks(path)
    snapshots.create(path, "before")
    assert run("undo", path, "--to", "then") == "brought back 6 keys, removed 2\n"
    assert values(path) == values(path, "then")
    assert looks(path) == looks(path, "then")
    run("undo", path, "--to", "before")
    assert (values(path), looks(path)) == (before, looked)


def test_nothing_changes_if_one_had_no_value(path):
    before = values(path)
    with kvfs.open(path, read_only=True) as store:
        position = store.position
    result = CliRunner().invoke(cli, ["restore", path, "changed", "added", "--at", "then"])
    assert result.exit_code != 0
    assert "'added' had no value then" in str(result.exception)
    assert values(path) == before
    with kvfs.open(path, read_only=True) as store:
        assert store.position == position


def test_what_is_secret_is_so_at_every_record(path):
    with kvfs.open(path, read_only=True) as store:
        start = store.position
    run("restore", path, "secret", "--at", "then")
    with kvfs.open(path, read_only=True) as store:
        end = store.position
    for sequence in range(start, end):
        with kvfs.open(path, at=sequence) as store:
            if store.get("secret"):
                assert stat.S_IMODE(store.look_of("secret").mode) == 0o600
