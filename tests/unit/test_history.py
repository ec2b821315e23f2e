"""What the log tells of the past: of all, of one key through its renames, and between two moments."""

import json
import os

import pytest
from click.testing import CliRunner
from histories import logged

import kvfs
from kvfs.cli.main import cli
from kvfs.records import Attrs, Delete, Link, Mkdir, Put, Rename, Setattr, Setxattr, Truncate, Write
from kvfs.store.history import changes, differences

TIME = 10**18
RECORDS = [
    Put(b"a", b"one"),
    Put(b"other", b"x"),
    Write(b"a", 3, b" more"),
    Rename(b"a", b"d/b"),
    Put(b"a", b"another"),
    Rename(b"d", b"e", directory=True, new_directory=True),
    Link(b"e/b", b"c"),
    Truncate(b"c", 2),
    Delete(b"other"),
    Mkdir(b"m"),
    Delete(b"c"),
    Setattr(b"e/b", Attrs(mode=0o600)),
]


@pytest.fixture
def path(tmp_path):
    records = [record._replace(time=TIME + number) for number, record in enumerate(RECORDS)]
    logged(tmp_path / "store", records)
    return str(tmp_path / "store")


def numbers(path, key=None):
    return [change.sequence for change in changes(path, key)]


def test_all_that_was_logged_in_its_order(path):
    found = list(changes(path))
    assert [change.sequence for change in found] == list(range(len(RECORDS)))
    assert [change.time - TIME for change in found] == list(range(len(RECORDS)))
    assert [change.what for change in found][:5] == ["put", "put", "write", "rename", "put"]
    assert found[2][5:8] == (False, 3, 5)
    assert (found[3].key, found[3].new) == (b"a", b"d/b")
    assert found[7].size == 2
    assert {change.uid for change in found} == {os.getuid()}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"e/b", [0, 2, 3, 5, 6, 7, 10, 11]),
        (b"a", [0, 2, 3, 4]),
        (b"other", [1, 8]),
        (b"m", [9]),
        (b"never", []),
    ],
)
def test_one_key_through_its_names(path, key, expected):
    assert numbers(path, key) == expected


def test_a_text_log_tells_the_same_but_for_times(tmp_path):
    path = str(tmp_path / "store")
    with kvfs.open(path, format="text") as store:
        store.put("a", "1")
        store.rename("a", "b")
        store.delete("b")
    assert [change.what for change in changes(path, b"b")] == ["put", "rename", "delete"]


def between(path, old, new=None):
    with kvfs.open(path, at=old) as before, kvfs.open(path, at=new, read_only=True) as after:
        return list(differences(before, after))


def test_what_came_went_and_changed(path):
    assert between(path, 1) == [("changed", b"a"), ("added", b"e/b"), ("removed", b"other")]
    assert between(path, 0, 1) == [("added", b"other")]
    assert between(path, 6, 7) == [("changed", b"c"), ("changed", b"e/b")]
    assert between(path, 10, 11) == [("changed", b"e/b")]  # its mode
    assert between(path, 11) == []


def test_the_same_value_put_again_is_no_change(tmp_path):
    path = str(tmp_path / "store")
    records = [Put(b"a", b"same"), Put(b"a", b"same"), Setxattr(b"a", b"user.n", b"v")]
    logged(tmp_path / "store", [record._replace(time=TIME) for record in records])
    assert between(path, 0, 1) == []
    assert between(path, 1, 2) == [("changed", b"a")]


def run(*words):
    result = CliRunner().invoke(cli, [os.fsdecode(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_the_log_is_shown_a_line_each(path):
    lines = run("log", path, "other")
    assert len(lines) == 2
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("put 'other' 1 bytes")
    assert run("log", path)[3].endswith("rename 'a' to 'd/b'")
    assert [json.loads(line)["what"] for line in run("log", path, "a", "--json")] == [
        "put",
        "write",
        "rename",
        "put",
    ]
    first = json.loads(run("log", path, "--json")[2])
    assert first == {
        "sequence": 2,
        "time": TIME + 2,
        "what": "write",
        "key": "a",
        "directory": False,
        "offset": 3,
        "size": 5,
        "uid": os.getuid(),
    }


def test_differences_are_shown_a_line_each(path):
    assert run("diff", path, "1") == ["~ a", "+ e/b", "- other"]
    assert run("diff", path, "0", "1") == ["+ other"]
    assert json.loads(run("diff", path, "0", "1", "--json")[0]) == {
        "change": "added",
        "key": "other",
    }


def test_a_moment_that_is_none_is_one_line(path):
    result = CliRunner().invoke(cli, ["diff", path, "soon"])
    assert result.exit_code != 0


def of(tmp_path, records, key):
    numbered = [record._replace(time=TIME + number) for number, record in enumerate(records)]
    logged(tmp_path / "other", numbered)
    return numbers(str(tmp_path / "other"), key)


def test_a_key_that_came_with_its_directory_has_the_history_of_its_file(tmp_path):
    moved = Rename(b"a", b"b", directory=True, new_directory=True)
    assert of(tmp_path, [Mkdir(b"a"), Put(b"a/x", b"1"), moved], b"b/x") == [1, 2]


def test_what_a_rename_replaced_has_another_history(tmp_path):
    records = [Put(b"doc", b"1"), Put(b"tmp", b"2"), Rename(b"tmp", b"doc")]
    assert of(tmp_path, records, b"tmp") == [1, 2]


def test_what_happens_to_the_directory_of_a_key_is_not_its_history(tmp_path):
    records = [
        Mkdir(b"n"),
        Put(b"n/q", b"1"),
        Setattr(b"n", Attrs(mode=0o700), directory=True),
    ]
    assert of(tmp_path, records, b"n/q") == [1]


def test_a_key_that_never_was_is_an_error(path):
    result = CliRunner().invoke(cli, ["log", path, "never"])
    assert "nothing was ever logged of 'never'" in str(result.exception)
