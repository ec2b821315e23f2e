"""What goes wrong is one line that says what to do, and harms nothing else."""

import errno
import os
import subprocess
import sys

import pytest

MIB = 1024 * 1024


@pytest.fixture(params=["binary", "text"])
def store(request, stores):
    """Return a store that is not mounted, with one key."""
    made = stores.make(request.param, mount=False)
    made.cli("put", made.store, "a", "1", ok=True)
    return made


@pytest.mark.parametrize(
    "args",
    [
        ["init"],
        ["init", "new", "--format", "xml"],
        ["init", "new", "--max-segment-size", "many"],
        ["init", "new", "--max-segment-size", "1XB"],
        ["init", "new", "--max-segment-size", "-5"],
        ["frobnicate"],
        ["put", "store"],
        ["get", "store"],
        ["get", "store", "a", "b"],
        ["list", "--wrong", "store"],
        ["mount", "store"],
        ["mount", "store", "mnt", "-o", "cached"],
        ["mount", "store", "mnt", "-o", "nodev,dirsync"],
        ["mount", "store", "mnt", "--durability", "never"],
        ["unmount"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(stores, args):
    stores.cli(*args, cwd=stores.directory, fails=2)
    assert not (stores.directory / "new").exists()


@pytest.mark.parametrize("size", ["0", "1", "4097GiB", "99999999999999999999"])
def test_impossible_sizes(stores, size):
    done = stores.cli("init", "new", "--max-segment-size", size, cwd=stores.directory, fails=1)
    assert b"max_segment_size" in done.stderr
    assert not (stores.directory / "new" / "store.toml").exists()


@pytest.mark.parametrize(
    "verb",
    [
        "mount {} mnt",
        "get {} a",
        "put {} a 1",
        "delete {} a",
        "list {}",
        "export {} -",
        "import {} -",
        "check {}",
    ],
)
def test_no_store(stores, verb):
    (stores.directory / "mnt").mkdir()
    (stores.directory / "empty").mkdir()
    (stores.directory / "file").touch()
    for place, says in (
        ("missing", b"no store"),
        ("empty", b"no kvfs store"),
        ("file", b"is a file"),
    ):
        args = verb.format(place).split()
        done = stores.cli(*args, cwd=stores.directory, fails=1)
        assert says in done.stderr, done
        assert place.encode() in done.stderr
    assert os.listdir(stores.directory / "empty") == []


def test_init_where_something_is(store):
    assert b"is a kvfs store already" in store.cli("init", store.store, fails=1).stderr
    assert b"not empty" in store.cli("init", store.store / "segments", fails=1).stderr
    store.cli("init", store.store / "store.toml", fails=1)
    store.cli("init", store.store / "no" / "parent", fails=1)
    assert store.cli("get", store.store, "a", ok=True).stdout == b"1"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"version = 1", b"version = 2", b"newer"),
        (b"version = 1", b"version = 0", b"damaged"),
        (b"version = 1", b"version = ", b"damaged"),
        (b"version = 1", b"", b"damaged"),
        (b"max_segment_size = 6", b'max_segment_size = "6" # ', b"damaged"),
        (b'id = "', b'id = "zz', b"damaged"),
        (b"# A kvfs", b"\xff\xfe", b"damaged"),
        (b'format = "binary"', b'format = "other"', b"format"),
    ],
)
def test_a_store_toml_that_is_not_understood(stores, old, new, says):
    store = stores.make(mount=False)
    file = store.store / "store.toml"
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    for args in (
        ["get", store.store, "a"],
        ["mount", store.store, store.path],
        ["put", store.store, "a", "1"],
    ):
        assert says in store.cli(*args, fails=1).stderr


def test_mountpoints_that_are_none(store):
    nowhere = store.store.parent / "nowhere"
    assert b"does not exist" in store.cli("mount", store.store, nowhere, fails=1).stderr
    file = store.store.parent / "file"
    file.write_bytes(b"kept")
    assert b"not a directory" in store.cli("mount", store.store, file, fails=1).stderr
    (store.path / "in the way").write_bytes(b"kept")
    assert b"not empty" in store.cli("mount", store.store, store.path, fails=1).stderr
    assert (store.path / "in the way").read_bytes() == b"kept"
    assert b"not empty" in store.cli("mount", "-f", store.store, store.path, fails=1).stderr
    for path in (store.path, nowhere, file):
        assert b"no kvfs store is mounted" in store.cli("unmount", path, fails=1).stderr


def test_a_store_cannot_be_mounted_into_itself(store, tools):
    # What the daemon reads then would have to come from the daemon.
    done = store.cli("mount", store.store, store.store / "quarantine")
    if done.returncode == 0:
        store.daemon = store._stores.adopt(store.store)
        assert store.cli("get", store.store, "a", ok=True).stdout == b"1"
        store.cli("unmount", store.store / "quarantine", ok=True)
    assert tools.mounts_below(store.store) == []


def test_mounted_already(mounted, stores):
    pid = str(mounted.daemon.pid).encode()
    done = mounted.cli("mount", mounted.store, mounted.path, fails=1)
    assert b"already" in done.stderr
    assert os.fsencode(mounted.store) in done.stderr
    other = stores.make(name="other", mount=False)
    assert b"already" in other.cli("mount", other.store, mounted.path, fails=1).stderr
    done = mounted.cli("mount", mounted.store, other.path, fails=1)
    assert b"in use by process " + pid in done.stderr
    assert not os.path.ismount(other.path)
    mounted.run("echo still > here; cat here")


def test_a_store_that_another_process_holds(store):
    holder = (
        "import sys, kvfs\n"
        "with kvfs.open(sys.argv[1]) as store:\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", holder, store.store]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        done = store.cli("mount", store.store, store.path, fails=1)
        assert b"in use by process %d" % process.pid in done.stderr
        assert store.cli("get", store.store, "a", ok=True).stdout == b"1"
        assert store.cli("check", store.store, ok=True)
        process.stdin.close()
        assert process.wait(20) == 0
    store.mount()


def test_keys_and_values_over_the_limit(stores):
    store = stores.make("text", size=70_000, mount=False)
    store.quiet = False
    limit = b"k" * 65_535
    for turn in range(2):
        assert b"65536 bytes" in store.cli("put", store.store, limit + b"k", "1", fails=1).stderr
        done = store.cli("put", store.store, f"big{turn}", stdin=b"x" * 100_000, fails=1)
        assert b"does not fit" in done.stderr
        store.cli("put", store.store, limit, str(turn), ok=True)
        assert store.cli("get", store.store, limit, ok=True).stdout == str(turn).encode()
        if not store.daemon:
            assert store.cli("list", store.store, ok=True).stdout == limit + b"\n"
            store.mount()


def test_a_file_that_no_text_segment_holds(stores):
    mounted = stores.make("text", size=300)
    mounted.quiet = False
    (mounted.path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        (mounted.path / "a").write_bytes(b"x" * 400)
    (mounted.path / "b").write_bytes(b"x" * 200)
    assert (mounted.path / "b").read_bytes() == b"x" * 200
    # As anywhere, the truncation that came before the refused write stands.
    assert (mounted.path / "a").read_bytes() == b""
    mounted.kill()
    mounted.mount()
    assert (mounted.path / "a").read_bytes() == b""
    assert (mounted.path / "b").read_bytes() == b"x" * 200


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        '{"key": "x"}',
        '{"value": "x"}',
        '{"key": 1, "value": "x"}',
        '{"key_base64": "*", "value": ""}',
        "",
    ],
)
def test_a_broken_line_imports_nothing(stores, line):
    store = stores.make("text", mount=False)
    file = store.store.parent / "lines"
    good = '{"key": "b", "value": "2"}\n'
    file.write_text(f"{good}{line}\n{good}")
    done = store.cli("import", store.store, file, fails=1)
    assert b"line 2" in done.stderr
    assert store.segments() == b""
    assert (
        b"line 1"
        in store.cli("import", store.store, "-", stdin=line.encode() + b"\n", fails=1).stderr
    )
    store.cli("import", store.store, store.store.parent / "none", fails=1)


def test_damage_is_named_and_nothing_is_lost(store):
    for key in ("b", "c"):
        store.cli("put", store.store, key, "value of " + key, ok=True)
    segment = store.store / "segments" / "00000001.seg"
    good = segment.read_bytes()
    offset = good.index(b"P|b|") if store.form == "text" else None
    bad = good.replace(b"P|b|", b"?|b|") if store.form == "text" else good.replace(b"of b", b"OF b")
    assert bad != good
    segment.write_bytes(bad)
    for args in (["mount", store.store, store.path], ["put", store.store, "d", "1"]):
        done = store.cli(*args, fails=1)
        assert b"00000001.seg" in done.stderr
        assert b"offset" in done.stderr
        assert b"kvfs check" in done.stderr
        assert offset is None or str(offset).encode() in done.stderr
    checked = store.cli("check", store.store)
    assert checked.returncode == 1
    assert b"Traceback" not in checked.stderr
    assert b"00000001.seg" in checked.stdout
    assert b"offset" in checked.stdout
    assert b"damaged: 2 records" in checked.stdout
    assert segment.read_bytes() == bad
    assert not os.path.ismount(store.path)
    segment.write_bytes(good)
    store.mount()
    assert store.run("cat a b") == b"1value of b"


def test_damage_under_a_mount_is_an_error_and_never_a_wrong_value(stores):
    mounted = stores.make()
    (mounted.path / "a").write_bytes(b"value of a")
    (mounted.path / "b").write_bytes(b"value of b")
    segment = mounted.store / "segments" / "00000001.seg"
    mounted.remount()
    position = segment.read_bytes().index(b"value of b")
    with open(segment, "r+b") as file:
        file.seek(position)
        file.write(b"VALUE")
    mounted.quiet = False
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        (mounted.path / "b").read_bytes()
    assert "00000001.seg" in mounted.log()
    assert "offset" in mounted.log()
    assert (mounted.path / "a").read_bytes() == b"value of a"
    mounted.run("echo new > b; cat b")


def test_a_missing_segment_is_damage(stores):
    store = stores.make(size="4KiB", mount=False)
    for key in ("a", "b", "c"):
        store.cli("put", store.store, key, stdin=b"x" * 3000, ok=True)
    (store.store / "segments" / "00000002.seg").unlink()
    assert b"00000002" in store.cli("mount", store.store, store.path, fails=1).stderr
    assert store.cli("check", store.store).returncode == 1


@pytest.fixture(params=["binary", "text"])
def small(request, stores):
    """Return a mounted store on a disk of 1 MiB, with a few keys."""
    disk = stores.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    mounted = stores.make(request.param, name="disk")
    mounted.quiet = False
    for name in ("a", "b"):
        (mounted.path / name).write_bytes(b"value of " + name.encode())
    return mounted


def test_put_to_a_full_disk(small):
    small.umount()
    before = small.segments()
    done = small.cli("put", small.store, "big", stdin=b"x" * 2 * MIB, fails=1)
    assert b"no space left" in done.stderr
    assert small.segments() == before
    small.cli("put", small.store, "small", "1", ok=True)
    assert small.cli("get", small.store, "small", ok=True).stdout == b"1"
    assert small.records() == 3


@pytest.mark.parametrize("size", [900_000, 2 * MIB])
def test_a_full_disk_under_a_mount(small, size, tools):
    """A new file whose close was refused is not there any more."""
    filler = small.store.parent / "filler"
    filler.write_bytes(bytes(300_000))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (small.path / "big").write_bytes(os.urandom(size))
    assert (small.path / "a").read_bytes() == b"value of a"
    tools.until(lambda: sorted(os.listdir(small.path)) == ["a", "b"])
    filler.unlink()
    (small.path / "b").write_bytes(b"new")
    assert (small.path / "b").read_bytes() == b"new"
    assert small.records() >= 3
    small.kill()
    small.mount()
    assert small.run("ls; cat a b") == b"a\nb\nvalue of anew"


def test_put_through_the_mount_to_a_full_disk(small):
    done = small.cli("put", small.store, "a", stdin=os.urandom(2 * MIB), fails=1)
    assert b"No space left" in done.stderr
    small.cli("put", small.store, "b", "new", ok=True)
    assert small.run("cat b") == b"new"


def until_full(fill, pieces):
    """Call `fill` with each of `pieces` until the disk is full, which it must be before the last."""
    try:
        for piece in pieces:
            fill(piece)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return
        raise
    pytest.fail("the disk did not fill")


def test_not_a_byte_left(small):
    filler = small.store.parent / "filler"
    with open(filler, "wb", buffering=0) as file:
        until_full(file.write, [bytes(4096)] * 1000)
    # What is left of the last page of the segment takes some small records yet.
    until_full(lambda n: (small.path / f"f{n}").write_bytes(b"x" * 100), range(2000))
    assert (small.path / "a").read_bytes() == b"value of a"
    os.truncate(filler, 4096 * 10)
    for number in range(20):
        (small.path / f"g{number}").write_bytes(b"after")
    names = set(os.listdir(small.path))
    small.remount()
    assert {f"g{number}" for number in range(20)} <= set(os.listdir(small.path)) <= names
    assert (small.path / "g7").read_bytes() == b"after"
