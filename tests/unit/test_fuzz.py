"""Bytes that nobody wrote, as segments and as store.toml: only the documented errors come out.

What a run has found is kept in `tests/corpus` and tried each time. More, with seeds of its own:
`KVFS_EXAMPLES=100000 bash tests/run.sh tests/unit/test_fuzz.py --timeout 0`
"""

import os
import shutil
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kvfs
from kvfs import config, keys
from kvfs.codec import BinaryCodec, Place
from kvfs.disk import Disk
from kvfs.errors import ConfigError, CorruptionError
from kvfs.store.core import Core
from kvfs.store.opening import read_config
from kvfs.store.repair import repair
from kvfs.store.verify import check
from kvfs.table import KEYS_INO, Directory, audit

TESTS = Path(__file__).parent.parent
GOLDEN = {form: TESTS / "golden" / form for form in ("binary", "text")}
CORPUS = sorted((TESTS / "corpus").iterdir())
SEGMENTS = {
    form: [f.read_bytes() for f in sorted((path / "segments").iterdir())]
    for form, path in GOLDEN.items()
}
SETTINGS = settings(max_examples=int(os.environ.get("KVFS_EXAMPLES", "150")))
MIB = 1024 * 1024


@st.composite
def mutated(draw, form):
    """Draw a golden segment with a few places changed, cut, doubled or filled."""
    data = bytearray(draw(st.sampled_from(SEGMENTS[form])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        new = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"\xff" * 4, b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7, b"|", b"\n"]
                ),
                st.builds(
                    lambda a, b: bytes(data[min(a, b) : max(a, b)]), *[st.integers(0, 300)] * 2
                ),
            )
        )
        end = at + draw(st.sampled_from([0, len(new), 1, 40]))
        data[at:end] = new
    return bytes(data)


@st.composite
def resealed(draw):
    """Draw a golden segment in which a record is changed, and verifies all the same."""
    segment = draw(st.integers(0, len(SEGMENTS["binary"]) - 1))
    data = SEGMENTS["binary"][segment]
    codec = BinaryCodec(read_config(str(GOLDEN["binary"]), Disk()).id)
    places = list(codec.scan(data, segment + 1, codec.header_size))
    found = draw(st.sampled_from(places))
    raw = bytearray(data[found.offset : found.offset + found.length])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(13, len(raw) - 1))  # behind the length and the mark
        raw[at] = draw(st.sampled_from([0, 1, 0x2E, 0x2F, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    sealed = codec.seal(bytes(raw), Place(segment + 1, found.offset, found.synced))
    return segment, data[: found.offset] + sealed + data[found.offset + found.length :]


class Fuzzed:
    """A copy of a golden store with one segment replaced."""

    def __init__(self, form, segment, data):
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name) / "s"
        shutil.copytree(GOLDEN[form], self.path)
        (self.path / "segments" / f"{segment + 1:08}.seg").write_bytes(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._directory.cleanup()

    def open(self):
        """Replay; return the table, or None if the log is refused."""
        path = str(self.path)
        core = Core(Disk(), path, read_config(path, Disk()), writable=False)
        try:
            core.open(None, 0)
        except CorruptionError:
            return None
        finally:
            core.close()
        return core.table


def legal(table):
    """Fail unless each name is one that stays within its directory, and the table fits together."""
    assert list(audit(table)) == []
    for node in map(table.nodes.look, table.nodes):
        if isinstance(node, Directory):
            for name in node.entries:
                assert name not in (b"", b".", b"..")
                assert b"/" not in name
                assert b"\0" not in name
                assert len(name) <= keys.MAX_NAME
    assert keys.CONTROL not in table.root.entries
    assert table.node(KEYS_INO) is not None


def load(data):
    """Return the configuration that `data` is, or None if it is refused."""
    with suppress(ConfigError):
        return config.load(data, "store.toml")
    return None


def try_all(fuzzed):
    """Open, check and repair the store; it is sound after that."""
    table = fuzzed.open()
    if table is not None:
        legal(table)
    report = check(str(fuzzed.path))
    assert report.damaged or table is not None
    repair(str(fuzzed.path))
    assert not check(str(fuzzed.path)).damaged
    repaired = fuzzed.open()
    assert repaired is not None
    legal(repaired)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_mutated_segments(form):
    @SETTINGS
    @given(st.integers(0, len(SEGMENTS[form]) - 1), mutated(form))
    def run(segment, data):
        with Fuzzed(form, segment, data) as fuzzed:
            try_all(fuzzed)

    run()


@SETTINGS
@given(resealed())
def test_records_that_verify_but_were_never_written(drawn):
    with Fuzzed("binary", *drawn) as fuzzed:
        try_all(fuzzed)


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_the_corpus(form, file):
    with Fuzzed(form, 0, file.read_bytes()) as fuzzed:
        try_all(fuzzed)
    load(file.read_bytes())


@settings(max_examples=SETTINGS.max_examples * 5)
@given(st.data())
@example(None)
def test_configurations(data):
    whole = (GOLDEN["binary"] / "store.toml").read_bytes()
    if data is None:
        assert config.load(whole, "store.toml")
        return
    at = data.draw(st.integers(0, len(whole)))
    end = at + data.draw(st.integers(0, 20))
    new = data.draw(
        st.binary(max_size=20) | st.text("0123456789-e.\"'[]{}=\n#_", max_size=20).map(str.encode)
    )
    found = load(whole[:at] + new + whole[end:])
    if found:
        assert found.codec().min_segment_size <= found.max_segment_size < 2**32


def test_no_length_is_believed(tmp_path):
    """Lengths that promise gigabytes take no memory."""
    codec = BinaryCodec()
    whole = SEGMENTS["binary"][0]
    at = codec.header_size
    for length in (2**31, 2**32 - 1):
        data = whole[: at + 8] + length.to_bytes(4, "little") + whole[at + 12 :]
        with Fuzzed("binary", 0, data) as fuzzed:
            tracemalloc.start()
            try:
                assert fuzzed.open() is None
                assert check(str(fuzzed.path)).damaged
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()
    path = tmp_path / "s"
    kvfs.init(path)
    with kvfs.open(path) as store:
        store.put("a", "1")
        node = store.files.lookup(1, b"a")
        store.files.content.truncate(node, 2**62)
        store.files.content.commit(node)
        tracemalloc.start()
        try:
            assert store.files.content.read(node, 2**61, 4096) == bytes(4096)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()
