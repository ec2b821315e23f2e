"""Every verb of the command line, with real processes, alone and beside a mount."""

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

NASTY = [
    b"",
    b"a//b",
    b"/",
    b"..",
    b"k" * 1000,
    b"new\nline",
    b"p|q",
    b"x\x7f%41",
    b"\xff\xfe",
    b".kvfs/keys/=",
    b"d/e/f",
]


@pytest.fixture(params=["binary", "text"])
def store(request, stores):
    """Return a store that is not mounted."""
    return stores.make(request.param, mount=False)


@pytest.fixture(params=["alone", "mounted"])
def either(request, stores):
    """Return a text store, mounted or not: the verbs must not show which."""
    return stores.make("text", mount=request.param == "mounted")


def values(store):
    """Return all keys and values, by way of export."""
    lines = store.cli("export", store.store, "-", ok=True).stdout.splitlines()
    return dict(pair(json.loads(line)) for line in lines)


def json_line(key, value):
    fields = {"key_base64": key, "value_base64": value}
    text = json.dumps({name: base64.b64encode(data).decode() for name, data in fields.items()})
    return text.encode() + b"\n"


def pair(line):
    def field(name):
        return line[name].encode() if name in line else base64.b64decode(line[f"{name}_base64"])

    return field("key"), field("value")


def test_both_ways_to_call_it_are_one(stores):
    script = Path(sys.executable).parent / "kvfs"
    for args in (["--version"], ["--help"], ["put", "--help"]):
        module = stores.cli(*args, ok=True).stdout
        assert module
        as_script = subprocess.check_output([script, *args])
        assert as_script.split(b"\n")[1:] == module.split(b"\n")[1:]  # the usage names the program
    assert b"kvfs" in stores.cli("-h", ok=True).stdout


@pytest.mark.parametrize(
    ("size", "number"),
    [
        ("64MiB", 64 << 20),
        ("1k", 1024),
        ("65536", 65536),
        ("2 GiB", 2 << 30),
        ("1MB", 1 << 20),
        (None, 64 << 20),
    ],
)
def test_init_takes_sizes_as_people_write_them(stores, size, number):
    store = stores.make(size=size, mount=False).store
    assert f"max_segment_size = {number}\n" in (store / "store.toml").read_text()
    assert {"store.toml", "segments", "checkpoints", "quarantine"} <= set(os.listdir(store))


def test_init_makes_a_text_store_of_one_byte_segments(stores):
    store = stores.make("text", size=1, mount=False)
    done = store.cli("put", store.store, "a", "1", fails=1)
    assert b"does not fit" in done.stderr


def test_put_get_delete(either):
    path = either.store
    for key, value in ((b"a", b"1"), (b"b/c", b"\xff|\n"), (b"e", b"")):
        assert either.cli("put", path, key, value, ok=True).stdout == b""
    either.cli("put", path, "stdin", stdin=b"a\0b\r\n", ok=True)
    either.cli("put", path, "a", "2", ok=True)
    assert either.cli("get", path, "a", ok=True).stdout == b"2"
    assert either.cli("get", path, "stdin", ok=True).stdout == b"a\0b\r\n"
    assert values(either) == {b"a": b"2", b"b/c": b"\xff|\n", b"e": b"", b"stdin": b"a\0b\r\n"}
    assert either.cli("delete", path, "a", ok=True).stdout == b""
    assert b"no key 'a'" in either.cli("get", path, "a", fails=1).stderr
    assert b"no key 'a'" in either.cli("delete", path, "a", fails=1).stderr
    lines = either.lines()
    assert [line for line in lines if line.startswith((b"P|a|", b"D|"))] == [
        b"P|a|1",
        b"P|a|2",
        b"D|a",
    ]


def test_list(either):
    for key in ("b", "a", "d/1", "d/2", "dx"):
        either.cli("put", either.store, key, "1", ok=True)
    assert either.cli("list", either.store, ok=True).stdout == b"a\nb\nd/1\nd/2\ndx\n"
    assert either.cli("list", either.store, "d", ok=True).stdout == b"d/1\nd/2\ndx\n"
    assert either.cli("list", either.store, "d/", "-0", ok=True).stdout == b"d/1\0d/2\0"
    assert either.cli("list", either.store, "none", ok=True).stdout == b""


@pytest.mark.parametrize("form", ["binary", "text"])
def test_any_key_through_a_mount_as_without_one(stores, form):
    alone, beside = (stores.make(form, name=name, mount=False) for name in ("alone", "beside"))
    beside.mount()
    named, imported = NASTY[::2], NASTY[1::2]
    wanted = {key: b"value of " + key for key in NASTY}
    lines = b"".join(json_line(key, wanted[key]) for key in imported)
    for store in (alone, beside):
        for key in named:
            store.cli("put", store.store, "--", key, wanted[key], ok=True)
        store.cli("import", store.store, "-", stdin=lines, ok=True)
        assert values(store) == wanted
        for key in named[:3]:
            store.cli("delete", store.store, "--", key, ok=True)
        assert values(store) == {key: wanted[key] for key in NASTY if key not in named[:3]}
    beside.remount()
    assert values(beside) == values(alone)


@pytest.mark.parametrize("order", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a", "a/b/c")])
def test_a_key_and_keys_below_it(either, order):
    for key in order:
        either.cli("put", either.store, key, f"value of {key}", ok=True)
    assert values(either) == {key.encode(): f"value of {key}".encode() for key in order}
    either.cli("put", either.store, order[0], "again", ok=True)
    assert either.cli("get", either.store, order[0], ok=True).stdout == b"again"
    for key, left in zip(order, (1, 0), strict=True):
        either.cli("delete", either.store, key, ok=True)
        assert len(values(either)) == left


def test_long_keys_have_their_place_in_the_mount(text):
    text.cli("put", text.store, "k" * 1000, "1", ok=True)
    found = text.run("find .kvfs/keys -type f -exec cat {} +")
    assert found == b"1"
    assert text.lines()[-1] == b"P|" + b"k" * 1000 + b"|1"


def test_a_key_below_a_symbolic_link_does_not_leave_the_mount(stores):
    mounted = stores.make()
    outside = stores.directory / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"untouched")
    (mounted.path / "way").symlink_to(outside)
    (mounted.path / "direct").symlink_to(outside / "file")
    mounted.cli("put", mounted.store, "way/file", "1", ok=True)
    mounted.cli("put", mounted.store, "way/new", "2", ok=True)
    mounted.cli("put", mounted.store, "direct", "3", fails=1)
    mounted.cli("delete", mounted.store, "way/new", ok=True)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"file": b"untouched"}
    assert mounted.cli("get", mounted.store, "way/file", ok=True).stdout == b"1"
    # A key beside keys below it: the link gives its place to the directory.
    assert os.readlink(mounted.path / ".kvfs" / "keys" / "way") == str(outside)
    assert (mounted.path / "way" / "file").read_bytes() == b"1"
    assert (mounted.path / "direct").is_symlink()


def test_put_to_a_special_file_is_refused_alike(either):
    if either.daemon:
        os.mkfifo(either.path / "fifo")
    else:
        either.cli("put", either.store, "x", "1", ok=True)
        (either.store / "segments" / "00000001.seg").write_bytes(b"N|fifo|10644|0\n")
    done = either.cli("put", either.store, "fifo", "1", fails=1)
    assert b"special file" in done.stderr, done
    assert b"no key" in either.cli("get", either.store, "fifo", fails=1).stderr
    assert b"no key" in either.cli("delete", either.store, "fifo", fails=1).stderr


def test_verbs_beside_a_mount_see_the_mount_and_the_mount_sees_them(mounted):
    mounted.run("echo file > a; mkdir d; echo 1 > d/b")
    assert mounted.cli("get", mounted.store, "a", ok=True).stdout == b"file\n"
    assert mounted.run("ls; cat none 2> /dev/null || echo none") == b"a\nd\nnone\n"
    mounted.cli("put", mounted.store, "none", "now", ok=True)
    mounted.cli("put", mounted.store, "a", "verb", ok=True)
    mounted.cli("put", mounted.store, "new/dir/f", "deep", ok=True)
    mounted.cli("delete", mounted.store, "d/b", ok=True)
    assert mounted.run("cat a none new/dir/f; ls d") == b"verbnowdeep"
    assert mounted.cli("check", mounted.store, ok=True).stdout.endswith(b"3 keys with a value\n")


def test_verbs_at_a_store_that_is_named_otherwise(stores):
    mounted = stores.make()
    (stores.directory / "alias").symlink_to(mounted.store)
    mounted.cli("put", "alias", "a", "1", cwd=stores.directory, ok=True)
    mounted.cli("put", "store", "b", "2", cwd=stores.directory, ok=True)
    assert mounted.run("cat a b") == b"12"


def test_export_and_import_carry_any_bytes(store, tmp_path):
    wanted = {key: os.urandom(50) + key for key in [*NASTY, bytes(range(256)), "ü".encode()]}
    wanted |= {b"empty": b"", b"text": "zwölf\n".encode(), b"large": os.urandom(300_000)}
    lines = b"".join(json_line(key, value) for key, value in wanted.items())
    (tmp_path / "in.jsonl").write_bytes(lines)
    assert store.cli("import", store.store, tmp_path / "in.jsonl", ok=True).stdout == b""
    out = tmp_path / "out.jsonl"
    assert store.cli("export", store.store, out, ok=True).stdout == b""
    assert dict(pair(json.loads(line)) for line in out.read_bytes().splitlines()) == wanted
    assert store.cli("export", store.store, "-", ok=True).stdout == out.read_bytes()
    assert {"key": "text", "value": "zwölf\n"} in [
        json.loads(x) for x in out.read_bytes().splitlines()
    ]
    store.mount()
    store.cli("import", store.store, "-", stdin=b'{"key": "text", "value": "2"}\n', ok=True)
    assert values(store) == wanted | {b"text": b"2"}


IMPATIENT = """
from kvfs.cli import main, progress
progress.PATIENCE = 0
main()
"""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("get STORE a", ["opening"]),
        ("put STORE b 2", ["opening"]),
        ("export STORE -", ["opening", "exporting"]),
        ("check STORE", ["checking"]),
        ("restore STORE a --at 0", ["restoring"]),
        ("undo STORE --to 0", ["undoing"]),
        ("backup STORE STORE-copy", ["copying"]),
    ],
)
def test_progress_is_for_terminals_only(stores, words, shown):
    store = stores.make(mount=False)
    for key in ("a", "b"):
        store.cli("put", store.store, key, "1", ok=True)  # nothing on standard error
    args = words.replace("STORE", str(store.store)).split(" ")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT, *args],
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    said = os.read(ours, 65536)
    os.close(ours)
    assert all(word.encode() in said for word in shown), said
    assert b"\33" not in done.stdout


def test_a_failing_export_leaves_the_old_file(stores, tmp_path):
    store = stores.make("binary", mount=False)
    for key in ("a", "b"):
        store.cli("put", store.store, key, f"value of {key}", ok=True)
    segment = store.store / "segments" / "00000001.seg"
    (tmp_path / "file").write_bytes(b"old")
    damaged = segment.read_bytes().replace(b"value of a", b"value OF a")
    segment.write_bytes(damaged)
    store.cli("export", store.store, tmp_path / "file", fails=1)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "mnt", "store"]
    store.cli("export", store.store, tmp_path / "no" / "file", fails=1)


def test_a_reader_that_stops_early_is_no_failure(stores):
    store = stores.make("text", mount=False)
    store.cli("put", store.store, "a", stdin=b"x" * 3_000_000, ok=True)
    for verb in ("get {} a", "export {} -"):
        words = f"{sys.executable} -m kvfs {verb.format(store.store)}"
        done = subprocess.run(
            ["bash", "-c", f"{words} | head -c 3; echo ${{PIPESTATUS[0]}}"],
            check=False,
            capture_output=True,
        )
        assert (done.stdout[-2:], done.stderr) == (b"0\n", b""), verb


def test_many_writers_at_once_wait_for_each_other(store):
    command = [sys.executable, "-m", "kvfs", "put", store.store]
    running = [
        subprocess.Popen([*command, f"k{n}", str(n)], stderr=subprocess.PIPE) for n in range(5)
    ]
    for process in running:
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, b"")
    assert values(store) == {b"k%d" % n: b"%d" % n for n in range(5)}


def test_a_mount_in_the_foreground(stores, tools):
    store = stores.make(mount=False)
    command = [sys.executable, "-m", "kvfs", "mount", "-f", store.store, store.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        tools.until(lambda: os.path.ismount(store.path))
        store.daemon = stores.adopt(store.store)
        assert store.daemon.pid == process.pid
        store.run("echo 1 > a")
        store.cli("unmount", store.path, ok=True)
        assert process.wait(20) == 0
        assert b"Traceback" not in process.stderr.read()


def test_paths_with_odd_names_mount_and_unmount(stores, tools):
    odd = stores.make(name="a b,c\\d'é\t%41", mount=False)
    odd.mount()
    odd.run("echo 1 > a")
    odd.cli("put", odd.store, "b", "2", ok=True)
    assert odd.run("cat a b") == b"1\n2"
    odd.cli("unmount", odd.path, ok=True)
    assert not os.path.ismount(odd.path)
