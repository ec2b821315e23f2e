"""What check and repair show, whatever is in the way of showing it."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from wounded import flip, one_lost, small

from kvfs.cli.main import cli


def test_keys_are_shown_as_they_are(tmp_path):
    path = tmp_path / "s"
    with small(path) as store:
        store.put("[red]x[/red][/]", "OLDER")
        store.put(b"\xff[/b]", "OTHER")
        store.put("c", "c")
    flip(path, b"OLDER")
    flip(path, b"OTHER")
    for command in ("check", "repair"):
        result = CliRunner().invoke(cli, [command, str(path)])
        assert "'[red]x[/red][/]'" in result.output
        assert r"'\\xff[/b]'" in result.output


def run(*args, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "kvfs", *map(str, args)],
        check=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        **kwargs,
    )


def test_a_repair_that_cannot_be_shown_says_where_its_list_is(tmp_path):
    path = tmp_path / "s"
    one_lost(path)
    with open("/dev/full", "wb") as full:
        result = run("repair", path, stdout=full)
    assert result.returncode == 1
    assert f"the list is in {path}/quarantine/segments.1.json".encode() in result.stderr
    assert json.loads((path / "quarantine" / "segments.1.json").read_text())["lost"]


@pytest.mark.parametrize("language", ["C", "C.UTF-8"])
def test_no_name_keeps_a_repair_from_being_shown(tmp_path, language):
    path = tmp_path / os.fsdecode(b"s\xff")
    one_lost(path)
    result = run(
        "repair",
        path,
        stdout=subprocess.PIPE,
        env={**os.environ, "LC_ALL": language, "PYTHONUTF8": "0"},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"repaired: 1 records" in result.stdout


def test_a_check_whose_reader_leaves_fails_all_the_same(tmp_path):
    path = tmp_path / "s"
    one_lost(path, max_segment_size=512)
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait()
        assert run("check", path, stdout=reader.stdin).returncode == 1
        reader.stdin.close()


def test_check_follows_no_link(tmp_path):
    path = tmp_path / "s"
    small(path).close()
    (path / "segments").rename(tmp_path / "elsewhere")
    (path / "segments").symlink_to(tmp_path / "elsewhere")
    result = run("check", path, stdout=subprocess.PIPE)
    assert result.returncode == 1
    assert b"follows no link" in result.stderr
