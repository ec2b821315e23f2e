"""What `kvfs stat` says of a store that is not as it should be."""

import json
import os
import subprocess
import sys

import pytest

import kvfs


@pytest.fixture(params=["binary", "text"])
def path(request, tmp_path):
    path = str(tmp_path / "store")
    with kvfs.open(path, format=request.param) as store:
        store.put("a", "1" * 50)
        store.put("b", "2" * 50)
    return path


def stat(path, *args, fails=0):
    command = [sys.executable, "-m", "kvfs", "stat", path, *args]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60, text=True)
    assert done.returncode == fails, done
    return done.stderr if fails else done.stdout


def segment(path):
    return os.path.join(path, "segments", "00000001.seg")


def test_a_damaged_store_leads_to_its_check(path):
    size = os.path.getsize(segment(path))
    with open(segment(path), "r+b") as file:
        file.write(b"?" * (size - 30))
    for args in ([], ["--json"]):
        said = stat(path, *args, fails=1)
        assert said.count("\n") == 1
        assert said.startswith("kvfs: segment 00000001.seg is damaged at offset 0: ")
        assert said.endswith(f"to see all that is wrong: kvfs check {path}\n")
        with pytest.raises(kvfs.CorruptionError) as caught:
            kvfs.open(path, read_only=True)
        assert said == f"kvfs: {caught.value}\n"


def test_a_log_that_has_become_shorter(path):
    assert "state:             sound\n" in stat(path)
    assert json.loads(stat(path, "--json"))["lost"] == 0
    os.truncate(segment(path), os.path.getsize(segment(path)) - 7)
    state = "state:             7 bytes are missing at its end since it was last closed\n"
    assert state in stat(path)
    assert json.loads(stat(path, "--json"))["lost"] == 7
    with kvfs.open(path):  # which cuts the rest, and keeps it
        assert "state:             sound\n" in stat(path)


def test_a_store_that_has_failed_says_why_it_takes_no_writes(path):
    with kvfs.open(path) as store:
        store._core.log.fail("the disk is gone")
        assert "state:             takes no more writes: the disk is gone\n" in stat(path)
        assert json.loads(stat(path, "--json"))["holder"]["failure"] == "the disk is gone"
