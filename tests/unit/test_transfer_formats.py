"""What each format is read from: real files of other programs, and damaged ones."""

import base64
import dbm.dumb
import io
import json
import os
import sqlite3
import stat
import struct
import sys
import tarfile
from pathlib import Path

import pytest
from transferring import bring, export, state, values

import kvfs
from kvfs.errors import KvfsError
from kvfs.store.files import Owner
from kvfs.transfer.entries import Name
from kvfs.transfer.formats import of_input, of_output
from kvfs.transfer.rdb_bytes import BadDumpError, crc64, unpack

REDIS = Path(__file__).parents[1] / "data" / "redis"
STRINGS = {
    b"plain": b"value",
    b"empty": b"",
    b"12345": b"a key that is a number",
    b"packed": b"abcabcabc" * 100,
    b"run": b"z" * 5000,
    b"zeros": bytes(20000),
    b"bytes": b"\xff\0|\n",
    b"a/b/c": b"below directories",
    **{
        b"number:" + number: number
        for number in b"0 127 -128 128 32767 -32768 32768 2147483647 -2147483648 2147483648 007".split()
    },
}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store"
    kvfs.init(path)
    return str(path)


def refuses(store, file, *words, **options):
    """Check that `file` is refused with one line that has `words`, and that nothing has changed."""
    before = state(store)
    with pytest.raises(KvfsError) as caught:
        bring(store, file, **options)
    line = str(caught.value)
    assert all(word in line for word in words), line
    assert "\n" not in line
    assert state(store) == before


def write(path, data):
    path.write_bytes(data)
    return path


# -- which format ------------------------------------------------------------------


def test_the_format_is_known_by_name_or_content(tmp_path):
    names = {"a.jsonl": "jsonl", "a.ndjson": "jsonl", "A.TAR": "tar", "a.tgz": "tar"}
    names |= {"a.tar.xz": "tar", "a.tar.bz2": "tar", "d/": "tree", "a": "jsonl", "-": "jsonl"}
    assert {name: of_output(name) for name in names} == names
    assert of_output(str(tmp_path)) == of_input(str(tmp_path)) == "tree"
    heads = {
        b"P|a|1\n": "text",
        b"x|a|n|%00\n": "text",
        b'{"key": "a", "value": "1"}\n': "jsonl",
        b'{"header":{},"kvs":[]}': "etcd",
        b'{"key":"YQ==","create_revision":2}': "etcd",
        b"REDIS0010": "redis",
        b"SQLite format 3\0": "sqlite",
        b"\x1f\x8b": "tar",
        b"BZh9": "tar",
        b"\xfd7zXZ\0": "tar",
        b"": "jsonl",
    }
    for head, form in heads.items():
        assert of_input(str(write(tmp_path / "file", head))) == form
    with tarfile.open(tmp_path / "file", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    assert of_input(str(tmp_path / "file")) == "tar"
    dbm.dumb.open(str(tmp_path / "d"), "c").close()
    assert of_input(str(tmp_path / "d")) == of_input(str(tmp_path / "d.dat")) == "dbm"


# -- Redis ---------------------------------------------------------------------------


def test_strings_of_redis_however_they_are_encoded(store):
    counts = bring(store, REDIS / "strings.rdb")
    found = values(store)
    random, digest = found.pop(b"random"), found.pop(b"hash")
    assert found == STRINGS
    assert len(digest) == 64
    assert len(random) == counts.bytes - 64 - sum(map(len, STRINGS.values()))
    bring(store, REDIS / "plain.rdb")
    assert values(store)[b"unpacked"] == b"abcabcabc" * 100


def test_expired_keys_of_redis_are_passed_over(store):
    counts = bring(store, REDIS / "expiry.rdb")
    assert values(store) == {b"lasting": b"1", b"ahead": b"2"}
    assert counts.skipped.total() == 1
    with kvfs.open(store) as opened:
        ends = dict(opened.table.expiries.all())
        assert list(ends) == [opened.table.number_of(b"ahead")]
        assert all(abs(end - 4 * 10**18) < 10**9 for end in ends.values())


def test_databases_of_redis_are_not_mixed(store):
    refuses(store, REDIS / "databases.rdb", "the databases 0 and 3", "--table")
    counts = bring(store, REDIS / "databases.rdb", table="3", prefix=b"three/")
    assert values(store) == {b"three/second": b"3"}
    assert counts.skipped.total() == 1
    refuses(store, REDIS / "databases.rdb", "'x' is none", table="x")


def test_other_types_of_redis_are_named_or_passed_over(store):
    refuses(store, REDIS / "types.rdb", "only strings", "--skip-others")
    counts = bring(store, REDIS / "types.rdb", skip_others=True)
    assert values(store) == {b"string": b"s", b"last": b"l"}
    assert counts.skipped == {
        "keys that are a list": 2,
        "keys that are a set": 3,
        "keys that are a sorted set": 2,
        "keys that are a hash": 2,
        "keys that are a stream": 1,
    }


def test_any_damage_to_a_dump_of_redis_is_found(store, tmp_path):
    whole = (REDIS / "types.rdb").read_bytes()
    for size in (0, 5, 8, 9, 50, len(whole) - 9, len(whole) - 1):
        refuses(store, write(tmp_path / "d", whole[:size]), form="redis", skip_others=True)
    for place in range(0, len(whole), 997):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        refuses(store, write(tmp_path / "d", damaged), form="redis", skip_others=True)
    refuses(
        store, write(tmp_path / "d", whole + b"x"), "does not end", form="redis", skip_others=True
    )


def rdb(*parts):
    return b"REDIS0012" + b"".join(parts) + b"\xff" + bytes(8)


def test_what_newer_dumps_have(store, tmp_path):
    """Written by hand from rdb.c: what Debian's server does not write."""
    timed = b"\x18\x01t" + struct.pack("<q", 9) + b"\x01\x05\x01f\x01v"
    notes = [b"\xf9\x07", b"\xf8\x09", b"\xf4\x01\x02\x03", b"\xfd" + struct.pack("<i", 2**31 - 1)]
    long = b"\x00\x01l\x81" + struct.pack(">Q", 3) + b"abc"
    old = b"\x03\x01z\x03\x01a\x031.5\x01b\xfd\x01c\xfe"
    module = b"\x07\x01m\x81" + bytes(8) + b"\x01\x05\x02\x06\x03abcd\x04abcdefgh\x05\x02hi\x00"
    file = write(tmp_path / "d", rdb(timed, old, module, *notes, long))
    counts = bring(store, file, skip_others=True)
    assert values(store) == {b"l": b"abc"}
    assert counts.skipped.total() == 3
    refuses(store, write(tmp_path / "d", rdb(b"\x63\x01a")), "type 99", skip_others=True)


def test_crc64_and_lzf():
    assert (
        crc64(b"789", crc64(b"123456")) == crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    )  # of crc64.c
    assert unpack(b"\x01ab\xe0\x00\x01", 11) == b"ababababab"[:2] + b"ababababa"
    for packed, size in ((b"\x05ab", 6), (b"\x20\x00", 3), (b"\x00a", 2), (b"\xe0", 9)):
        with pytest.raises(BadDumpError):
            unpack(packed, size)


# -- SQLite ----------------------------------------------------------------------------


def database(path, *statements):
    with sqlite3.connect(path) as opened:
        for statement in statements:
            opened.execute(statement)
    opened.close()
    return path


def test_a_table_of_sqlite(store, tmp_path):
    file = database(
        tmp_path / "x.sqlite",
        'CREATE TABLE "o\'d""d" (name, content)',
        "INSERT INTO \"o'd\"\"d\" VALUES ('a/b', 'ü'), (7, x'00ff'), (1.5, 2)",
    )
    os.chmod(file, 0o444)
    counts = bring(store, file, prefix=b"p/")
    assert values(store) == {b"p/a/b": "ü".encode(), b"p/7": b"\0\xff", b"p/1.5": b"2"}
    assert (counts.keys, counts.bytes) == (3, 5)


def test_which_table_of_sqlite(store, tmp_path):
    file = database(
        tmp_path / "db",
        "CREATE TABLE one (a, b, c)",
        "CREATE TABLE two (x, y)",
        "CREATE TABLE three (x, y)",
        "INSERT INTO one VALUES ('k', 'v', 'w')",
        "INSERT INTO two VALUES ('k2', NULL), ('k3', 3)",
    )
    refuses(store, file, "--table", "one", "two")
    refuses(store, file, "no table 'four'", table="four")
    refuses(store, file, "--key-column", "a, b, c", table="one")
    refuses(store, file, "row 1 of two", "'k2'", "--skip-others", table="two")
    bring(store, file, table="one", key_column="c", value_column="A")
    assert values(store) == {b"w": b"k"}
    assert bring(store, file, table="two", skip_others=True).skipped.total() == 1
    database(file, "CREATE VIEW pairs AS SELECT a || '!' AS Key, c AS VALUE FROM one")
    bring(store, file)
    assert values(store) == {b"w": b"k", b"k3": b"3", b"k!": b"w"}


def test_what_is_no_table_of_sqlite(store, tmp_path):
    refuses(store, write(tmp_path / "x.sqlite", b"SQLite format 3\0" + b"x" * 600), "x.sqlite")
    refuses(
        store, database(tmp_path / "e.sqlite", "CREATE TABLE t (k, v)", "DROP TABLE t"), "no table"
    )
    with pytest.raises(KvfsError):
        bring(store, tmp_path / "gone.sqlite")
    assert not (tmp_path / "gone.sqlite").exists()


# -- dbm and etcd --------------------------------------------------------------------------


def test_a_dbm_database(store, tmp_path):
    with dbm.dumb.open(str(tmp_path / "d"), "c") as opened:
        opened[b"\xff/a"] = b"\0"
        opened["b"] = "2"
    bring(store, tmp_path / "d")
    assert values(store) == {b"\xff/a": b"\0", b"b": b"2"}
    (tmp_path / "d.dir").write_text("'a', (0, 'x')\n")
    refuses(store, tmp_path / "d", "cannot be read", form="dbm")


def test_a_dbm_database_without_its_module(store, tmp_path, monkeypatch):
    file = write(tmp_path / "g", struct.pack("=l", 0x13579ACE) + bytes(100))
    monkeypatch.setitem(sys.modules, "dbm.gnu", None)
    refuses(store, file, "dbm.gnu")


def pair(key, value=None):
    found = {"key": base64.b64encode(key).decode(), "create_revision": 2, "version": 1}
    return found if value is None else {**found, "value": base64.b64encode(value).decode()}


def test_answers_of_etcd(store, tmp_path):
    answer = {"header": {"revision": 9}, "kvs": [pair(b"/a", b"\xff"), pair(b"b")], "count": 2}
    lines = [json.dumps(answer), json.dumps({"header": {}, "kvs": [pair(b"c", b"3")]})]
    bring(store, write(tmp_path / "one", json.dumps(answer, indent=2).encode()))
    assert values(store) == {b"/a": b"\xff", b"b": b""}
    bring(store, write(tmp_path / "two", "\n".join(lines).encode()))
    bring(store, write(tmp_path / "pairs", json.dumps(pair(b"d", b"4")).encode()))
    assert values(store) == {b"/a": b"\xff", b"b": b"", b"c": b"3", b"d": b"4"}
    for bad in (
        lines[0] + "\n{",
        lines[0][:-1],
        '{"kvs": [{"key": "?"}]}',
        "[]",
        '{"a": 1}',
        "\xff",
    ):
        refuses(store, write(tmp_path / "bad", bad.encode("latin1")), "bad, ", form="etcd")


# -- JSON Lines and text -----------------------------------------------------------------


def test_the_line_of_a_mistake_is_named(store, tmp_path):
    good = b'{"key": "a", "value": "1"}\n'
    refuses(store, write(tmp_path / "x.jsonl", good * 2 + b"{}\n"), "line 3")
    long = json.dumps({"key": "a" * 70_000, "value": ""}).encode()
    refuses(store, write(tmp_path / "x.jsonl", good + long), "x.jsonl", "70000")
    refuses(store, write(tmp_path / "log", b"P|a|1\nP|b\n"), "line 2", form="text")
    refuses(store, write(tmp_path / "log", b"P|a|1\nP|b|2"), "line 2", form="text")
    refuses(store, write(tmp_path / "log", b"P|a|1\nL|c|b\nP|d|1\n"), "line 2", form="text")


def test_a_text_log_is_replayed_first(store, tmp_path):
    with kvfs.open(store) as opened:
        opened.put("b", "stays")
    bring(
        store, write(tmp_path / "log", b"P|a|1\nP|b|2\nP|a|3\nD|b\np|x%7Cy|50%25\nM|d|mode=700\n")
    )
    assert values(store) == {b"a": b"3", b"b": b"stays", b"x|y": b"50%"}
    assert state(store)[Name(b"d")][0] == oct(stat.S_IFDIR | 0o700)
    bring(store, write(tmp_path / "log", b""), form="text")


def test_plain_keys_are_plain_lines(store, tmp_path):
    with kvfs.open(store) as opened:
        for key, value in ((b"a", b"1"), (b"b/c", b"2"), (b"d|", b"3")):
            opened.put(key, value)
    export(store, tmp_path / "log", "text")
    assert (tmp_path / "log").read_bytes() == b"P|a|1\np|d%7C|3\nP|b/c|2\n"


# -- tar -------------------------------------------------------------------------------------


def archive(path, *members, form=tarfile.PAX_FORMAT):
    """Make an archive of (name, changes, content)."""
    with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as made:
        for name, changes, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in changes.items():
                setattr(info, field, value)
            made.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("/etc/passwd", {}, "absolute"),
        ("a/../../b", {}, ".."),
        ("..", {}, ".."),
        ("a/" + "x" * 256, {}, "no key"),
        (".kvfs/at/1/a", {}, "past"),
        (".kvfs/keys/%41", {}, "no key"),
        (".kvfs/keys/a", {"type": tarfile.DIRTYPE}, "directory"),
        (".", {"type": tarfile.FIFOTYPE}, "root"),
        (".", {}, "root"),
        ("", {}, "root"),
        (".", {"type": tarfile.LNKTYPE, "linkname": "good"}, "root"),
        ("a", {"type": tarfile.SYMTYPE, "linkname": ""}, "target"),
        ("a", {"type": tarfile.LNKTYPE, "linkname": "../x"}, ".."),
        ("a", {"type": tarfile.LNKTYPE, "linkname": "nothing"}, "before it"),
        ("a", {"type": b"M"}, "type"),
        ("a", {"uid": 2**40}, "owner"),
        ("a", {"type": tarfile.CHRTYPE, "pax_headers": {"SCHILY.devmajor": str(2**40)}}, "device"),
    ],
)
def test_members_that_no_store_can_have_are_refused(store, tmp_path, name, changes, why):
    file = archive(tmp_path / "x.tar", ("good", {}, b"1"), (name, changes, b""))
    refuses(store, file, why, name[:9])


def test_names_of_any_bytes(store, tmp_path):
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        name = "./n\udcff\n" + "ü" * 100
        bring(store, archive(tmp_path / "x.tar", (name, {}, b"1"), form=form))
        assert values(store) == {name[2:].encode("utf-8", "surrogateescape"): b"1"}


def test_a_damaged_archive_is_refused(store, tmp_path):
    made = archive(tmp_path / "x.tar", ("a", {}, b"1" * 3000), ("b", {}, b"2"), ("c", {}, b"3"))
    whole = made.read_bytes()
    for size in (0, 300, 512, 2000, 3584, 4096, 5120):
        refuses(store, write(made, whole[:size]), "x.tar")
    refuses(store, write(made, whole[:4610] + b"X" + whole[4611:]), "damaged")
    for form in ("gz", "bz2", "xz"):
        packed = tmp_path / f"x.tar.{form}"
        with tarfile.open(packed, f"w:{form}") as opened:
            info = tarfile.TarInfo("a")
            info.size = 100_000
            opened.addfile(info, io.BytesIO(os.urandom(100_000)))
        data = packed.read_bytes()
        refuses(store, write(packed, data[:60_000]), "x.tar")
        refuses(store, write(packed, data[:-5]), "x.tar")
        refuses(store, write(packed, data[:5000] + b"!!" + data[5002:]), "x.tar")


def test_a_damaged_map_of_holes_is_refused(store, tmp_path):
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f"}
    for numbers in ("1\n5\n-1\n", "2\n9\n9\n0\n9\n", "1\n90\n90\n", "9\n"):
        data = numbers.encode().ljust(1024, b"\0")
        changes = {"pax_headers": {**headers, "GNU.sparse.realsize": "100"}}
        refuses(store, archive(tmp_path / "x.tar", ("f", changes, data)), "x.tar")


def test_an_archive_that_is_in_its_own_way_is_refused(store, tmp_path):
    symlink = {"type": tarfile.SYMTYPE, "linkname": "/tmp"}
    directory = {"type": tarfile.DIRTYPE}
    for members in (
        [("a", symlink, b""), ("a/b", {}, b"1")],
        [("a/b/c", {}, b"1"), ("a/b", {}, b"2")],
        [("a", directory, b""), ("a/b", directory, b""), ("a", {}, b"2")],
    ):
        refuses(store, archive(tmp_path / "x.tar", *members), "'a", "nothing was changed")
    members = [("a", {}, b"1"), ("a", directory, b""), ("a/b", {}, b"1"), ("a/b", {}, b"22")]
    bring(store, archive(tmp_path / "x.tar", *members))
    assert values(store) == {b"a/b": b"22"}


def test_what_is_in_the_way_gives_way_as_to_tar(store, tmp_path):
    with kvfs.open(store) as opened:
        opened.put("file", "old")
        opened.put("full/key", "kept")
        opened.files.mkdir(1, b"empty", Owner(0, 0, 0o755))
        opened.files.symlink(1, b"sym", b"file", Owner(0, 0, 0o777))
        opened.put("one", "shared")
        opened.files.link(opened.table.find(b"one"), 1, b"other")
    directory = {"type": tarfile.DIRTYPE, "mode": 0o700}
    refuses(
        store, archive(tmp_path / "x.tar", ("new", {}, b""), ("full", {}, b"")), "'full'", "empty"
    )
    refuses(store, archive(tmp_path / "x.tar", ("new", {}, b""), ("file/x", {}, b"")), "'file'")
    refuses(store, archive(tmp_path / "x.tar", ("new", {}, b""), ("sym/x", {}, b"")), "'sym'")
    members = [("file", directory, b""), ("file/x", {}, b"1"), ("empty", {}, b"2")]
    members += [("sym", {}, b"3"), ("full", directory, b""), ("one", {}, b"4")]
    bring(store, archive(tmp_path / "x.tar", *members))
    assert values(store) == {
        b"file/x": b"1",
        b"empty": b"2",
        b"sym": b"3",
        b"full/key": b"kept",
        b"one": b"4",
        b"other": b"shared",
    }
    assert state(store)[Name(b"full")][0] == oct(stat.S_IFDIR | 0o700)


def test_a_prefix_comes_before_all_keys(store, tmp_path):
    members = [(".", {"type": tarfile.DIRTYPE, "mode": 0o711}, b""), ("a", {}, b"1")]
    members += [("h", {"type": tarfile.LNKTYPE, "linkname": "a"}, b"")]
    file = archive(tmp_path / "x.tar", *members)
    bring(store, file, prefix=b"in/")
    assert values(store) == {b"in/a": b"1", b"in/h": b"1"}
    assert state(store)[Name(b"in")][0] == oct(stat.S_IFDIR | 0o711)
    bring(store, file, prefix=b"x//")
    assert values(store)[b"x//h"] == b"1"


def test_a_directory_with_a_name_no_store_can_have(store, tmp_path):
    (tmp_path / "t" / ".kvfs" / "keys" / "directory").mkdir(parents=True)
    refuses(store, tmp_path / "t", "directory")
    with pytest.raises(KvfsError, match="not empty"):
        export(store, tmp_path / "t", "tree")
