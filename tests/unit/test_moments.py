"""A store as it was: at a record, at a time; what a moment is, and what is none."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from histories import History, logged
from test_checkpoints import of, replayed
from test_table_states import looked_at

import kvfs
from kvfs.cli.main import cli
from kvfs.disk import Disk
from kvfs.errors import ConfigError, ReadOnlyError
from kvfs.log import Log
from kvfs.records import Delete, Put, Write
from kvfs.recovery import LogPaths
from kvfs.store.moment import Moment, moment_of
from kvfs.store.opening import open_store, read_config

SECOND = 10**9
START = 10**18  # 2001-09-09T01:46:40Z
RECORDS = [
    Put(b"a", b"one", time=START),
    Put(b"b", b"two", time=START + SECOND),
    Put(b"a", b"three", time=START + 2 * SECOND),
    Delete(b"b", time=START + 3 * SECOND),
    Put(b"c", b"four", time=START + 4 * SECOND),
]
STATES = [
    {b"a": b"one"},
    {b"a": b"one", b"b": b"two"},
    {b"a": b"three", b"b": b"two"},
    {b"a": b"three"},
    {b"a": b"three", b"c": b"four"},
]


@pytest.fixture
def path(tmp_path):
    logged(tmp_path / "store", RECORDS)
    return str(tmp_path / "store")


def at(path, when):
    with kvfs.open(path, at=when) as store:
        return dict(store.items())


def test_a_store_is_as_it_was_after_each_record(path):
    assert [at(path, number) for number in range(len(RECORDS))] == STATES


@pytest.mark.parametrize("number", range(5))
def test_a_store_is_as_it_was_at_a_time(path, number):
    time = datetime.fromtimestamp((START + number * SECOND) / SECOND, UTC)
    for later in (timedelta(0), timedelta(milliseconds=999)):
        assert at(path, time + later) == STATES[number]
        assert at(path, (time + later).isoformat()) == STATES[number]


def test_before_the_first_record_there_is_nothing(path):
    assert at(path, "2001-01-01") == {}
    assert at(path, "1000000 weeks ago") == {}


def test_the_present_is_the_end_of_the_past(path):
    assert at(path, "0s ago") == STATES[-1]
    assert at(path, datetime.now(UTC) + timedelta(days=1)) == STATES[-1]


def test_there_is_no_record_of_the_future(path):
    with pytest.raises(ConfigError, match="there is no record 5 yet: the log has 5"):
        kvfs.open(path, at=5)


def test_the_past_is_not_written(path):
    with kvfs.open(path, at=2) as store, pytest.raises(ReadOnlyError):
        store.put("a", "x")


def test_nothing_is_made_to_be_looked_at_as_it_was(tmp_path):
    with pytest.raises(kvfs.NotAStoreError):
        kvfs.open(tmp_path / "none", at=0)


@pytest.mark.parametrize("seed", range(4))
def test_with_checkpoints_the_past_is_the_same(tmp_path, seed):
    path = tmp_path / "store"
    history = History(path, seed, count=60)
    bare = {}
    sequences = range(0, len(history.records), 7)
    for sequence in sequences:
        with kvfs.open(path, at=sequence) as store:
            bare[sequence] = looked_at(store._core.table)
    for share in (3, 2):
        segment, offset, length = history.records[len(history.records) // share][0]
        of(path).make((segment, offset + length))
    stood = set()
    for sequence in sequences:
        with kvfs.open(path, at=sequence) as store:
            assert looked_at(store._core.table) == bare[sequence]
            stood.add(store.checkpointed)
    assert len(stood) == 3
    with kvfs.open(path, at=len(history.records) - 1) as store:
        assert looked_at(store._core.table) == looked_at(replayed(path))


def test_a_batch_is_in_the_past_as_a_whole(tmp_path):
    path = str(tmp_path / "store")
    kvfs.init(path)
    log = Log(Disk(), LogPaths.of(path), read_config(path, Disk()), writable=True)
    assert list(log.replay()) == []
    log.append([Put(b"a", b"x", time=START)])
    batch = [Put(b"b", b"1", time=START + 1), Write(b"b", 1, b"2", time=START + 9)]
    log.append(batch, atomic=True)
    log.close()
    assert at(path, 0) == {b"a": b"x"}
    assert at(path, 1) == at(path, 2) == {b"a": b"x", b"b": b"12"}


def test_a_text_store_knows_records_and_no_times(tmp_path):
    path = str(tmp_path / "store")
    with open_store(path, format="text") as store:
        for value in ("1", "2", "3"):
            store.put("a", value)
    assert at(path, 1) == {b"a": b"2"}
    with pytest.raises(ConfigError, match="a text log has no times"):
        kvfs.open(path, at="1h ago")


@pytest.mark.parametrize(
    ("when", "before"),
    [("2h ago", 7200), ("1.5 hours ago", 5400), ("90s ago", 90), ("3 days ago", 259_200)],
)
def test_how_long_ago(when, before):
    expected = datetime.now(UTC).timestamp() - before
    assert abs(moment_of(when, Disk(), "").time / SECOND - expected) < 10


@pytest.mark.parametrize("when", ["", "yesterday", "-1", "1e3", "5 moons ago", "2026-13-01", "²"])
def test_what_is_no_moment(path, when):
    with pytest.raises(ConfigError, match="is no moment"):
        moment_of(when, Disk(), path)
    result = CliRunner().invoke(cli, ["get", path, "a", "--at", when])
    assert result.exit_code != 0


def test_a_time_is_local_where_it_says_nothing_else():
    naive = datetime(2026, 1, 2, 3, 4, 5)
    assert moment_of("2026-01-02T03:04:05", Disk(), "") == moment_of(
        naive.astimezone(UTC), Disk(), ""
    )
    assert moment_of("1970-01-01T00:00:01Z", Disk(), "") == Moment(None, SECOND)


def test_the_command_line_looks_back(path, tmp_path):
    def run(*words):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert run("get", path, "a", "--at", "1") == "one"
    assert run("list", path, "--at", "2001-09-09T01:46:41Z") == "a\nb\n"
    lines = run("export", path, "-", "--at", "3").splitlines()
    assert [json.loads(line) for line in lines] == [{"key": "a", "value": "three"}]
