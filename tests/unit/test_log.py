import errno
import os

import pytest

from kvfs.disk import Disk
from kvfs.errors import CorruptionError, NoSpaceError, RecordTooLargeError, StoreFailedError
from kvfs.log import Log
from kvfs.records import Delete, Put, Write

A = Put(b"a", b"1")  # six bytes of text
BATCH = [Write(b"k", index * 300, bytes([index]) * 300) for index in range(4)]


def test_a_record_goes_into_the_last_file_while_it_fits(logs):
    log = logs.make("text", 12)
    log.append([A])
    log.append([A])
    log.append([Delete(b"a")])
    log.close()
    assert list(logs.files().values()) == [b"P|a|1\nP|a|1\n", b"D|a\n"]


@pytest.mark.parametrize(("size", "files"), [(6, 2), (11, 2), (12, 1), (13, 1)])
def test_the_limit_itself_still_fits(logs, size, files):
    log = logs.make("text", size)
    log.append([A, A])
    log.close()
    assert len(logs.files()) == files


def test_no_record_no_file(logs):
    log = logs.make("text", 1)
    log.append([])
    log.close()
    assert logs.files() == {}


def test_segments_of_binary_start_with_their_header(logs):
    log = logs.make("binary", 512)
    for _ in range(3):
        log.append([Put(b"k", bytes(400))])
    log.close()
    assert [len(data) for data in logs.files().values()] == [64 + 24 + 3 + 400] * 3
    heads = [log.codec.parse_header(data) for data in logs.files().values()]
    assert [(head.number, head.first) for head in heads] == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize("form", ["binary", "text"])
def test_the_largest_record_fits_and_the_next_is_refused(logs, form):
    log = logs.make(form, 512)
    room = 512 - log.codec.header_size - len(log.codec.encode(Put(b"k", b"")))
    log.append([Put(b"k", b"x" * room)])
    before = logs.files()
    assert len(before["00000001.seg"]) == 512
    with pytest.raises(RecordTooLargeError, match="put record of"):
        log.append([A, Put(b"k", b"x" * (room + 1))])
    assert logs.files() == before
    log.append([A])
    log.close()
    assert len(logs.files()) == 2


def test_locations_name_the_records(logs):
    log = logs.make("binary", 512)
    records = [Put(b"k%d" % index, bytes(index * 9)) for index in range(20)]
    locations = log.append(records[:10])
    for record in records[10:]:
        locations += log.append([record])
    assert [log.read(location) for location in locations] == records
    log.close()
    log, _ = logs.open()
    assert [log.read(location) for location in locations] == records
    log.close()


def test_reading_uses_few_files_and_any_segment(logs):
    log = logs.make("text", 6)
    locations = [log.append([Put(b"%c" % (65 + index), b"1")])[0] for index in range(50)]
    for _ in range(2):
        assert [log.read(place).key for place in locations] == [bytes([65 + i]) for i in range(50)]
    assert len(log._readers) <= 32
    log.close()


@pytest.mark.parametrize("form", ["binary", "text"])
def test_damage_under_an_open_log_is_named_and_never_returned(logs, form):
    log = logs.make(form, 512)
    log.append([A])
    place = log.append([Put(b"b", b"value")])[0]
    data = bytearray(logs.files()["00000001.seg"])
    data[place.offset] ^= 1
    logs.write(1, data)
    with pytest.raises(
        CorruptionError, match=rf"00000001\.seg .*offset {place.offset}\b"
    ) as caught:
        log.read(place)
    assert caught.value.errno == errno.EIO
    log.close()


def test_a_segment_is_synced_before_a_byte_goes_to_the_next(logs, faulty):
    logs.make("text", 6).close()
    log, _ = logs.open(faulty)
    log.append([A])
    assert faulty.calls["sync"] == 0
    log.append([A])
    assert faulty.calls["sync"] == 1
    log.sync()
    assert faulty.calls["sync"] == 2
    log.sync()
    assert faulty.calls["sync"] == 2
    log.close()


def test_a_full_disk_refuses_the_record_whole(logs, faulty, full):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    log.append([A])
    before = logs.files()
    faulty.fail("write", full, partial=5)
    with pytest.raises(NoSpaceError) as caught:
        log.append([Put(b"b", b"2")])
    assert caught.value.errno == errno.ENOSPC
    assert logs.files() == before
    faulty.heal()
    log.append([Put(b"c", b"3")])
    log.close()
    assert logs.open()[1] == [A, Put(b"c", b"3")]


@pytest.mark.parametrize("call", ["write", "sync_directory"])
@pytest.mark.parametrize("partial", [0, 1, 30])
@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("atomic", [True, False])
def test_a_full_disk_takes_back_a_batch_from_any_call_on(
    logs, faulty, call, partial, after, atomic
):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    log.append([A])
    before = logs.files()
    faulty.fail(call, errno.ENOSPC, after=after, partial=partial)
    try:
        log.append(BATCH, atomic=atomic)
        expected = [A, *BATCH]
    except NoSpaceError:
        # Where not even the names can be synced, the next append does it.
        assert call == "sync_directory" or logs.files() == before
        expected = [A]
    faulty.heal()
    log.append([Delete(b"a"), *BATCH], atomic=atomic)
    log.close()
    assert logs.open()[1] == [*expected, Delete(b"a"), *BATCH]


def test_a_full_disk_at_the_first_record_leaves_no_segment(logs, faulty):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    faulty.fail("write", errno.ENOSPC)
    with pytest.raises(NoSpaceError):
        log.append([A])
    assert logs.files() == {}
    faulty.heal()
    log.append([A])
    log.close()
    assert logs.open()[1] == [A]


def test_a_failed_write_ends_all_writing_but_not_reading(logs, faulty):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    place = log.append([A])[0]
    before = logs.files()
    faulty.fail("write", errno.EIO, times=1, partial=9)
    with pytest.raises(StoreFailedError):
        log.append([Delete(b"a")])
    assert logs.files() == before
    writes = faulty.calls["write"]
    with pytest.raises(StoreFailedError):
        log.append([Delete(b"a")])
    with pytest.raises(StoreFailedError):
        log.sync()
    assert faulty.calls["write"] == writes
    assert log.read(place) == A
    log.close()
    assert logs.open()[1] == [A]


def test_no_fsync_is_tried_twice(logs, faulty):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    log.append([A])
    faulty.fail("sync", errno.EIO, times=1)
    with pytest.raises(StoreFailedError) as caught:
        log.sync()
    assert caught.value.errno == errno.EIO
    for action in (log.sync, log.sync, lambda: log.append([A])):
        with pytest.raises(StoreFailedError):
            action()
    log.close()
    assert faulty.calls["sync"] == 1


def test_a_failed_fsync_while_rolling_writes_nothing_to_the_next(logs, faulty):
    logs.make("text", 6).close()
    log, _ = logs.open(faulty)
    log.append([A])
    faulty.fail("sync", errno.EIO)
    with pytest.raises(StoreFailedError):
        log.append([A])
    assert list(logs.files().values()) == [b"P|a|1\n"]
    log.close()


def test_a_record_that_cannot_be_taken_back_ends_all_writing(logs, faulty):
    logs.make("binary", 512).close()
    log, _ = logs.open(faulty)
    log.append([A])
    faulty.fail("write", errno.ENOSPC, partial=9)
    faulty.fail("truncate", errno.EIO)
    with pytest.raises(StoreFailedError):
        log.append([Delete(b"a")])
    faulty.heal()
    with pytest.raises(StoreFailedError):
        log.append([Delete(b"a")])
    log.close()
    assert logs.open()[1] == [A]


def test_short_writes_go_on(logs, monkeypatch):
    import os

    true = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: true(fd, bytes(data[:7]), at))
    log = logs.make("binary", 512)
    log.append([Put(b"k", bytes(100))])
    log.close()
    assert logs.open(Disk())[1] == [Put(b"k", bytes(100))]


def test_sequence_counts_records_over_restarts(logs):
    log = logs.make("binary", 512)
    log.append(BATCH, atomic=True)
    log.append([A])
    assert log.sequence == 5
    log.close()
    log, _ = logs.open()
    assert log.sequence == 5
    log.close()


def open_files():
    return len(os.listdir("/proc/self/fd"))


def swap_segments(logs):
    """Put a shorter log of other records in the place of this one, as a repair does."""
    other = logs.paths.segments + ".other"
    os.mkdir(other)
    paths = logs.paths._replace(segments=other, clean=other + ".clean")
    log = Log(Disk(), paths, logs.config, writable=True)
    assert list(log.replay()) == []
    log.append([Put(b"other", b"2" * 300)])
    log.close()
    os.unlink(logs.paths.clean)
    Disk().exchange(logs.paths.segments, other)


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_reader_keeps_the_log_that_it_began_with(logs, form):
    log = logs.make(form, 512)
    written = [Put(b"k%d" % number, b"v" * 300) for number in range(5)]
    places = [log.append([record])[0] for record in written]
    log.close()
    before = open_files()
    reader = Log(Disk(), logs.paths, logs.config, writable=False)
    replay = reader.replay()
    found = [next(replay)]
    swap_segments(logs)
    found += replay
    assert found == list(zip(written, places, strict=True))
    assert [reader.read(place) for place in places] == written
    reader.close()
    assert open_files() == before


def test_a_replay_that_fails_or_is_given_up_leaves_nothing_open(logs):
    log = logs.make("binary", 512)
    log.append([Put(b"k", b"v" * 300)])
    log.append([Put(b"k", b"v" * 300)])
    log.close()
    before = open_files()
    for writable in (False, True):
        replay = Log(Disk(), logs.paths, logs.config, writable=writable).replay()
        next(replay)
        assert open_files() == before + 1
        replay.close()
        assert open_files() == before
    logs.write(1, b"damaged")
    for writable in (False, True):
        with pytest.raises(CorruptionError):
            logs.open(writable=writable)
        assert open_files() == before
