"""Snapshots: names for moments, taken beside a writer, looked at, deleted."""

import json
import os

import pytest
from click.testing import CliRunner

import kvfs
from kvfs.cli.main import cli
from kvfs.errors import ConfigError, CorruptionError, KvfsError
from kvfs.store import snapshots
from kvfs.store.repair import repair


@pytest.fixture(params=["binary", "text"])
def path(request, tmp_path):
    path = str(tmp_path / "store")
    kvfs.init(path, format=request.param)
    return path


def at(path, when):
    with kvfs.open(path, at=when) as store:
        return dict(store.items())


def test_a_snapshot_is_the_store_as_it_was_when_it_was_taken(path):
    states = {}
    with kvfs.open(path) as store:
        for number in range(4):
            states[f"s{number}"] = dict(store.items())
            made = snapshots.create(path, f"s{number}")
            assert made.records == store.position
            store.put(f"{number}", "x")
            store.put("a", f"{number}")
    assert [found.name for found in snapshots.list_all(path)] == list(states)
    for name, state in states.items():
        assert at(path, name) == state


def test_a_snapshot_that_is_deleted_is_no_moment(path):
    snapshots.create(path, "before")
    snapshots.delete(path, "before")
    with pytest.raises(ConfigError, match="'before' is no moment"):
        at(path, "before")
    with pytest.raises(KvfsError, match="there is no snapshot 'before'"):
        snapshots.delete(path, "before")
    assert snapshots.list_all(path) == []


def test_a_name_is_taken_once(path):
    snapshots.create(path, "one")
    with kvfs.open(path) as store:
        store.put("a", "1")
    with pytest.raises(KvfsError, match="there is a snapshot 'one' already"):
        snapshots.create(path, "one")
    assert at(path, "one") == {}


@pytest.mark.parametrize(
    "name",
    ["", "17", "2026-11-28", "2h ago", ".", "..", ".x", "a/b", "a b", "x" * 201, "a.tmp", "ä"],
)
def test_what_can_be_no_name(path, name):
    with pytest.raises(ConfigError, match="can name no snapshot"):
        snapshots.create(path, name)
    with pytest.raises(KvfsError, match="there is no snapshot"):
        snapshots.delete(path, name)


def test_no_file_outside_is_taken_for_one(path):
    with open(os.path.join(os.path.dirname(path), "outside"), "w") as file:
        file.write("1 1\n")
    for name in ("../../outside", "../store.toml"):
        with pytest.raises(ConfigError, match="is no moment"):
            at(path, name)


def test_a_damaged_one_is_named(path):
    snapshots.create(path, "one")
    with open(f"{path}/snapshots/one", "w") as file:
        file.write("many\n")
    with pytest.raises(CorruptionError, match="snapshots/one is damaged"):
        at(path, "one")


def test_a_repair_keeps_those_of_the_old_log_with_it(tmp_path):
    path = str(tmp_path / "store")
    with kvfs.open(path) as store:
        for number in range(9):
            store.put(f"{number}", f"value {number}")
    snapshots.create(path, "one")
    segment = f"{path}/segments/00000001.seg"
    with open(segment, "rb") as file:
        data = bytearray(file.read())
    data[data.index(b"value 3")] ^= 1
    with open(segment, "wb") as file:
        file.write(data)
    assert repair(path).kept
    assert snapshots.list_all(path) == []
    assert os.listdir(f"{path}/quarantine/snapshots.1") == ["one"]


def test_the_command_line(path):
    def run(*words):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    run("put", path, "a", "1")
    run("snapshot", "create", path, "one")
    run("put", path, "a", "2")
    assert run("get", path, "a", "--at", "one") == "1"
    assert run("diff", path, "one") == "~ a\n"
    (line,) = run("snapshot", "list", path).splitlines()
    assert (line.split()[0], line.split()[-1]) == ("1", "one")
    shown = json.loads(run("snapshot", "list", path, "--json"))
    assert (shown["name"], shown["records"]) == ("one", 1)
    run("snapshot", "delete", path, "one")
    assert run("snapshot", "list", path) == ""
