"""What lands in the log when programs use the mount: one plain record for one plain act."""

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

WAYS_TO_PUT = {
    "sh": "sh -c 'printf 1 > a'",
    "bash": "bash -c 'printf 1 > a'",
    "bash function": "f() { printf 1; }; f > a",
    "bash echo -n": "echo -n 1 > a",
    "bash exec": "exec 3> a; printf 1 >&3; exec 3>&-",
    "bash stdout for good": "bash -c 'exec > a; printf 1'",
    "bash group": "{ printf ''; printf 1; } > a",
    "bash subshell": "(printf 1) > a",
    "bash here": "tr -d '\\n' <<< 1 > a",
    "/bin/printf": "/bin/printf 1 > a",
    "env printf in sh": "sh -c '/usr/bin/env printf 1 > a'",
    "pipe to cat": "printf 1 | cat > a",
    "tee": "printf 1 | tee a > /dev/null",
    "dd": "printf 1 | dd of=a status=none",
    "dd to stdout": "printf 1 | dd status=none > a",
    "head": "yes 1 | head -c 1 > a",
    "both outputs": "sh -c 'printf 1; : >&2' > a 2>&1",
    "in the background": "printf 1 > a & wait",
    "pipeline in braces": "{ printf 1 | cat; } > a",
    "python": 'python3 -c \'open("a", "w").write("1")\'',
    "python stdout": "python3 -c 'print(1, end=\"\")' > a",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tools):
    """Return one mounted text store for all ways; each finds and leaves it without keys."""
    with tools.stores_below(tmp_path_factory.mktemp("records")) as stores:
        yield stores.make("text")


class Appended:
    """What is appended to a log from now on."""

    def __init__(self, mounted):
        self._mounted = mounted
        self._start = len(mounted.segments())

    def __call__(self):
        return self._mounted.segments()[self._start :]

    def lines(self):
        return self().splitlines()


@pytest.mark.parametrize("way", WAYS_TO_PUT.values(), ids=WAYS_TO_PUT.keys())
def test_each_way_to_write_a_value_is_one_record(shared, way):
    appended = Appended(shared)
    shared.run(way)
    assert appended() == b"P|a|1\n"
    shared.run(way.replace("> a", ">| a"))
    assert appended() == b"P|a|1\n" * 2
    shared.run("rm a")
    assert appended() == b"P|a|1\n" * 2 + b"D|a\n"


def test_printf_and_rm_write_the_log_of_the_first_kvfs(text):
    text.run("printf 1 > a", shell="sh")
    assert text.segments() == b"P|a|1\n"
    text.run("printf 2 > b; rm a; printf 3 > b", shell="sh")
    assert text.segments() == b"P|a|1\nP|b|2\nD|a\nP|b|3\n"


@pytest.mark.parametrize("others", [0, 500])
def test_stdout_of_a_subprocess_is_one_record(text, others):
    with ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(open(os.devnull, "rb"))
        file = stack.enter_context(open(text.path / "a", "wb"))
        subprocess.run([sys.executable, "-c", "print(1, end='')"], stdout=file, check=True)
    assert text.segments() == b"P|a|1\n"


def test_an_empty_file_is_a_record_once_it_is_closed(text):
    text.run(": > a")
    assert text.segments() == b"P|a|\n"
    appended = Appended(text)
    text.run("touch b")  # which sets the times as well
    assert len(appended.lines()) == 1
    assert appended().startswith(b"P|b||")


def test_every_write_of_one_open_is_in_one_record(text):
    with open(text.path / "a", "wb", buffering=0) as file:
        file.writelines((b"one ", b"two ", b"three"))
        file.seek(4)
        file.write(b"TWO")
        assert text.segments() == b""
    assert text.segments() == b"P|a|one TWO three\n"


def test_rewriting_is_one_put_and_never_an_empty_file(text):
    text.run("printf old > a")
    appended = Appended(text)
    with open(text.path / "a", "wb", buffering=0) as file:
        file.write(b"new ")
        file.write(b"value")
        assert appended() == b""
    assert appended() == b"P|a|new value\n"


def test_adding_to_a_file_logs_what_is_added(text):
    text.run("printf old > a")
    appended = Appended(text)
    text.run("printf new >> a")
    assert appended() == b"W|a|3|new\n"
    text.run("printf X | dd of=a bs=1 seek=1 conv=notrunc status=none")
    assert appended.lines()[1:] == [b"W|a|1|X"]
    text.run("truncate -s 2 a")
    assert appended.lines()[2:] == [b"T|a|2"]
    assert (text.path / "a").read_bytes() == b"oX"


def test_names_and_attributes_are_records_of_their_own(text):
    appended = Appended(text)
    steps = {
        "mkdir d": b"M|d",
        "mkdir -m 700 e": b"M|e|mode=700",
        "printf 1 > d/f": b"P|d/f|1",
        "mv d/f d/g": b"R|d/f|d/g",
        "mv d x": b"R|d|x|dir",
        "chmod 600 x/g": b"A|x/g|mode=600",
        "chmod 750 x": b"A|x|dir|mode=750",
        "chown 5:6 x": b"A|x|dir|uid=5|gid=6",
        "ln x/g h": b"L|x/g|h",
        "ln -s x/g s": b"S|s|x/g",
        "mkfifo p": b"N|p|10644|0",
        "touch -d @1.5 h": b"A|x/g|atime=1500000000|mtime=1500000000",
        "rm h": b"D|h",
        "rm s": b"D|s",
        "rm p": b"D|p",
        "rm x/g": b"D|x/g",
        "rmdir x": b"D|x|dir",
    }
    for count, (step, record) in enumerate(steps.items(), 1):
        text.run(step)
        lines = appended.lines()
        assert lines[count - 1 :] == [record], step


def test_hard_link_keeps_its_first_name_as_key(text):
    text.run("printf 1 > a; ln a b; printf 2 >> b")
    assert text.lines() == [b"P|a|1", b"L|a|b", b"W|a|1|2"]
    text.run("rm a; printf 3 >> b")
    assert text.lines()[3:] == [b"D|a", b"W|b|2|3"]


def test_bytes_that_need_it_are_escaped(text):
    (text.path / "a|b").write_bytes(b"x")
    (text.path / "c").write_bytes(b"1\n|\0%")
    assert text.lines() == [b"p|a%7Cb|x", b"p|c|1%0A%7C%00%25"]


def test_what_was_never_closed_under_a_name_costs_no_log(mounted):
    path = mounted.path / "temporary"
    before = mounted.segments()
    with open(path, "wb+", buffering=0) as file:
        file.write(b"x" * 1000)
        path.unlink()
        file.write(b"y")
        file.seek(999)
        assert file.read() == b"xy"
    assert mounted.segments() == before
    mounted.remount()
    assert list(mounted.path.iterdir()) == []


def test_a_name_given_before_the_first_close_is_one_put_and_a_rename(text):
    with open(text.path / "a.tmp", "wb", buffering=0) as file:
        file.write(b"1")
        os.rename(text.path / "a.tmp", text.path / "a")
    assert text.lines() == [b"P|a.tmp|1", b"R|a.tmp|a"]


@pytest.mark.parametrize("size", [0, 1, 4096, 131072 - 200, 200_000, 1024 * 1024])
def test_a_small_file_is_one_batch(binary, size):
    (binary.path / "a").write_bytes(os.urandom(size))
    pieces = -(-max(size, 1) // (128 * 1024))
    assert pieces <= binary.records() <= pieces + 1
    if size < 128 * 1024:
        assert binary.records() == 1
        (binary.path / "a").write_bytes(b"again")
        assert binary.records() == 2
        (binary.path / "a").unlink()
        assert binary.records() == 3


def test_opening_and_reading_costs_no_log(mounted):
    (mounted.path / "a").write_bytes(b"1")
    before = mounted.segments()
    mounted.run(
        "cat a; cat < a; ls -la; exec 3<> a; exec 3>&-; exec 3>> a; exec 3>&-; head -c 1 a; stat a; find . -ls"
    )
    assert mounted.segments() == before


def test_fsync_logs_what_is_written_so_far(text):
    with open(text.path / "a", "wb", buffering=0) as file:
        file.write(b"1")
        os.fsync(file.fileno())
        assert text.segments() == b"P|a|1\n"
        file.write(b"2")
    assert text.segments() == b"P|a|1\nW|a|1|2\n"


def test_a_log_of_the_first_kvfs_is_shown_and_goes_on(stores):
    store = stores.make("text", size=24, mount=False)
    (store.store / "segments" / "00000001.seg").write_bytes(b"P|1|one\nP|2|two\nD|1\n")
    (store.store / "segments" / "00000002.seg").write_bytes(b"P|d/3|three\n")
    store.mount()
    assert store.run("ls; cat 2 d/3") == b"2\nd\ntwothree"
    store.run("printf 4444 > 4; printf 5 > 5")
    files = sorted((store.store / "segments").iterdir())
    assert [file.read_bytes() for file in files[1:]] == [b"P|d/3|three\nP|4|4444\n", b"P|5|5\n"]
