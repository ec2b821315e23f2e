"""The worked examples that kvfs grew from, on real files with a real restart."""

import json
import os
import subprocess
import sys

import pytest

import kvfs

SEED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "seed")
DEFAULT = 64 * 1024 * 1024

CHILD = """
import json, os, sys
import kvfs
path, form, size, steps = json.loads(sys.stdin.read())
store = kvfs.open(path, format=form, max_segment_size=size)
gets = []
for name, *arguments in steps:
    result = getattr(store, name)(*arguments)
    if name == "get":
        gets.append(result if result is None else result.decode())
print(json.dumps(gets), flush=True)
os._exit(0)
"""


def examples(name):
    with open(os.path.join(SEED, name)) as file:
        return json.load(file)


def here(path, form, size, steps):
    """Do `steps` in this process and close; return what the gets gave."""
    with kvfs.open(path, format=form, max_segment_size=size) as store:
        results = [(step[0], getattr(store, step[0])(*step[1:])) for step in steps]
    return [result and result.decode() for name, result in results if name == "get"]


def elsewhere(path, form, size, steps):
    """Do `steps` in a process that dies without closing; return what the gets gave."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([path, form, size, steps]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert child.stderr == ""
    return json.loads(child.stdout)


def items(path):
    with kvfs.open(path, read_only=True) as store:
        return [[key.decode(), value.decode()] for key, value in store.items()]


RUNS = pytest.mark.parametrize("run", [here, elsewhere])


@RUNS
@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("example", examples("part1.json"))
def test_part_1(tmp_path, run, form, example):
    path = str(tmp_path / "store")
    gets = run(path, form, DEFAULT, example["before"]) + run(path, form, DEFAULT, example["after"])
    assert gets == example["gets"]
    assert items(path) == example["items"]


@RUNS
@pytest.mark.parametrize("example", examples("part2.json"))
def test_part_2(tmp_path, run, example, segments):
    path, size = str(tmp_path / "store"), example["max_file_size"]
    gets = run(path, "text", size, example["before"]) + run(path, "text", size, example["after"])
    assert gets == example["gets"]
    assert items(path) == example["items"]
    assert segments(path) == [content.encode() for content in example["files"]]


def test_ten_thousand_operations_before_and_after_a_restart(tmp_path):
    path = str(tmp_path / "store")
    expected = {}
    for turn in range(2):
        steps = []
        for index in range(10_000):
            key = f"key {index * 7919 % 1000}"
            if index % 3 == turn:
                steps.append(("delete", key))
                expected.pop(key, None)
            else:
                steps.append(("put", key, f"{turn} {index}"))
                expected[key] = f"{turn} {index}"
        here(path, "text", 100_000, steps)
    assert items(path) == sorted([key, value] for key, value in expected.items())


def test_the_examples_are_all_there():
    assert len(examples("part1.json")) == 4
    assert len(examples("part2.json")) == 5
