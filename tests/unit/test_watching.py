"""`kvfs watch`: a line for each change, at once, and how it ends."""

import json
import os
import signal
import subprocess
import sys

import pytest

import kvfs

PATIENCE = 30.0


@pytest.fixture
def path(tmp_path):
    with kvfs.open(tmp_path / "s") as store:
        store.put("a/one", "1")
        store.put(b"\xff", b"\xfe\n")
        store.rename("a/one", "b/one")
        store.delete("b/one")
    return str(tmp_path / "s")


class Watch:
    """The command, running."""

    def __init__(self, *words, **options):
        command = [sys.executable, "-m", "kvfs", "watch", *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.process = subprocess.Popen(command, **pipes)

    def line(self):
        return self.process.stdout.readline()

    def end(self):
        """Return the status, and what it said, once it has ended."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines() if out else [], err.decode()


def watched(*words):
    status, lines, err = Watch(*words).end()
    assert (status, err) == (0, "")
    return lines


def test_what_there_is_is_shown_a_line_each(path):
    lines = [line.decode() for line in watched(path, "--from", 0, "--timeout", 0)]
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"]
    assert lines[0].endswith("put       'a/one' 1 bytes")
    assert lines[1].endswith(r"put       '\\xff' 2 bytes")
    assert lines[2].endswith("rename    'a/one' to 'b/one'")


def test_lines_of_json_tell_all(path):
    found = [
        json.loads(line) for line in watched(path, "--from", 0, "--count", 4, "--json", "--values")
    ]
    time = found[0].pop("time")
    assert time > 10**18
    first = {"seq": 0, "what": "put", "key": "a/one", "directory": False, "size": 1, "value": "1"}
    assert found[0] == first
    assert (found[1]["key_base64"], found[1]["value_base64"]) == ("/w==", "/go=")
    assert (found[2]["new"], "value" in found[2]) == ("b/one", False)


@pytest.mark.parametrize(
    ("prefix", "expected"), [("a/", [0, 2]), ("b", [2, 3]), ("", [0, 1, 2, 3]), ("x", [])]
)
def test_a_prefix_matches_either_name(path, prefix, expected):
    lines = watched(path, prefix, "--from", 0, "--timeout", 0, "--json")
    assert [json.loads(line)["seq"] for line in lines] == expected


def test_whoever_goes_on_misses_nothing_though_killed(path):
    seen = []
    with kvfs.open(path) as store:
        for turn in range(5):
            watch = Watch(path, "--from", seen[-1] + 1 if seen else 0, "--json")
            for number in range(3):
                store.put(f"{turn}.{number}", "1")
                seen.append(json.loads(watch.line())["seq"])
            watch.process.kill()
            watch.end()
        lines = watched(path, "--from", seen[-1] + 1, "--json", "--timeout", 0)
        seen += [json.loads(line)["seq"] for line in lines]
    assert seen == list(range(19))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_quietly(path, number):
    watch = Watch(path, "--from", 3)
    assert b"delete" in watch.line()
    watch.process.send_signal(number)
    assert watch.end() == (0, [], "")


def test_it_ends_when_nobody_reads_it_though_nothing_changes(path):
    watch = Watch(path, "--from", 3)
    assert b"delete" in watch.line()
    watch.process.stdout.close()
    assert watch.process.wait(PATIENCE) == 0
    assert watch.process.stderr.read() == b""
    watch.process.stderr.close()


def test_it_ends_when_nobody_reads_the_many_lines(path):
    with kvfs.open(path) as store:
        for turn in range(3000):
            store.put(f"key {turn}", "1")
    watch = Watch(path, "--from", 0)
    watch.line()
    watch.process.stdout.close()
    assert watch.process.wait(PATIENCE) == 0
    assert watch.process.stderr.read() == b""
    watch.process.stderr.close()


def test_a_count_that_is_not_reached_in_time_is_a_failure(path):
    status, lines, err = Watch(path, "--from", 3, "--count", 2, "--timeout", 0.1).end()
    assert (status, len(lines)) == (1, 1)
    assert err == "kvfs: 1 of 2 changes came within 0.1 s\n"


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["--from", "99"], 1, "there is no change 99 yet: the log has 4 records"),
        (["--values"], 2, "--values needs --json"),
        (["--from", "-1"], 2, "-1"),
    ],
)
def test_what_cannot_be_is_one_line(path, words, status, reason):
    found, lines, err = Watch(path, *words).end()
    assert (found, lines) == (status, [])
    assert reason in err
    assert err.count("\n") == 1


def test_a_store_that_is_not_there_is_one_line(tmp_path):
    status, _, err = Watch(tmp_path / "none").end()
    assert status == 1
    assert "there is no store" in err


def test_an_idle_watch_takes_no_cpu(path):
    watch = Watch(path, "--from", 3)
    watch.line()

    def told(name):
        with open(f"/proc/{watch.process.pid}/status", encoding="ascii") as file:
            return next(line for line in file if line.startswith(name)).split()[1]

    while told("State") != "S":
        os.sched_yield()
    before = told("voluntary")
    with kvfs.open(os.path.dirname(path) + "/other") as other:
        for turn in range(1000):
            other.put("a", str(turn))
    assert told("voluntary") == before, "it slept"
    watch.process.terminate()
    assert watch.end()[0] == 0
