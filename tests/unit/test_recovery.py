import os

import pytest

from kvfs.disk import Disk
from kvfs.errors import CorruptionError
from kvfs.records import Delete, Put, Write

FORMS = ["binary", "text"]
RECORDS = [Put(b"a", b"1"), Put(b"bb", b"22"), Delete(b"a"), Put(b"c", b"")]
BATCH = [Write(b"k", index * 300, bytes([index]) * 300) for index in range(3)]


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def written(logs, form, records=RECORDS, size=4096):
    """Write `records`, die, and return the places of them."""
    log = logs.make(form, size)
    places = [log.append([record])[0] for record in records]
    logs.crash(log)
    return places


def reopened(logs):
    log, records = logs.open()
    logs.crash(log)
    return records


TAILS = {
    "nothing": b"",
    "zeros": bytes(100),
    "marks": b"\xb5" * 100,
    "text": b"P|x|y" * 9,
    "lines": b"\n\n",
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_a_tail_torn_at_any_byte_is_cut_to_the_last_whole_record(logs, form, tail):
    places = written(logs, form)
    whole = logs.files()["00000001.seg"]
    for size in range(len(whole) + 1):
        rest = tail if size < len(whole) or form == "binary" else b""
        logs.write(1, whole[:size] + rest)
        survivors = [
            record
            for record, place in zip(RECORDS, places, strict=True)
            if place.offset + place.length <= size
        ]
        assert reopened(logs) == _expected(survivors, size, whole, rest, form)
        assert reopened(logs) == _expected(survivors, size, whole, rest, form)
        for name in logs.files():
            os.unlink(os.path.join(logs.paths.segments, name))


def _expected(survivors, size, whole, rest, form):
    """Where the tail itself completes a line of text, that line counts."""
    if form == "text":
        end = whole.rfind(b"\n", 0, size) + 1
        line, newline, _ = (whole[end:size] + rest).partition(b"\n")
        values = {
            b"P|a|1": RECORDS[0],
            b"P|bb|22": RECORDS[1],
            b"D|a": RECORDS[2],
            b"P|c|": RECORDS[3],
        }
        if newline and line[:1] in (b"P", b"D"):
            fields = line.split(b"|")
            if line in values:
                return [*survivors, values[line]]
            if line[:1] == b"P" and len(fields) == 3:
                return [*survivors, Put(fields[1], fields[2])]
            if line[:1] == b"D" and len(fields) == 2:
                return [*survivors, Delete(fields[1])]
    return survivors


def test_what_is_cut_is_kept_in_quarantine(logs, form):
    places = written(logs, form)
    whole = logs.files()["00000001.seg"]
    cut = places[-1].offset
    torn = whole[cut : cut + 3] + b"\0\0\0"
    logs.write(1, whole[:cut] + torn)
    assert reopened(logs) == RECORDS[:-1]
    assert logs.files() == {"00000001.seg": whole[:cut]}
    assert logs.kept() == {f"00000001.seg.{cut}": torn}


def test_quarantine_keeps_every_tail(logs, form):
    written(logs, form)
    whole = logs.files()["00000001.seg"]
    tails = [b"P|one", b"P|two", b"P|three"]
    for tail in tails:
        logs.write(1, whole + tail)
        reopened(logs)
    assert sorted(logs.kept().values()) == sorted(tails)


def test_a_second_open_changes_nothing(logs, form):
    written(logs, form)
    logs.write(1, logs.files()["00000001.seg"] + b"P|torn")
    reopened(logs)
    before = logs.files(), logs.kept()
    assert reopened(logs) == RECORDS
    assert (logs.files(), logs.kept()) == before


def test_a_reader_cuts_nothing(logs, form):
    written(logs, form)
    logs.write(1, logs.files()["00000001.seg"] + b"P|torn")
    before = logs.files()
    log, records = logs.open(writable=False)
    log.close()
    assert records == RECORDS
    assert (logs.files(), logs.kept()) == (before, {})


def test_after_a_cut_appends_go_on_in_place(logs, form):
    written(logs, form)
    whole = logs.files()["00000001.seg"]
    logs.write(1, whole + b"P|torn")
    log, _ = logs.open()
    place = log.append([Delete(b"bb")])[0]
    log.close()
    assert (place.segment, place.offset) == (1, len(whole))
    assert logs.open()[1] == [*RECORDS, Delete(b"bb")]


@pytest.mark.parametrize("size", range(64))
def test_a_torn_header_of_the_last_segment_is_cut_whole(logs, size):
    log = logs.make("binary", 512)
    log.append([Put(b"a", bytes(400))])
    log.append([Put(b"b", bytes(400))])
    logs.crash(log)
    logs.write(2, logs.files()["00000002.seg"][:size])
    assert reopened(logs) == [Put(b"a", bytes(400))]
    assert list(logs.files()) == ["00000001.seg"]
    log, _ = logs.open()
    log.append([Put(b"c", bytes(400))])
    log.close()
    assert logs.open()[1] == [Put(b"a", bytes(400)), Put(b"c", bytes(400))]


def test_an_incomplete_batch_over_segments_is_dropped_whole(logs):
    log = logs.make("binary", 512)
    first = Put(b"k", b"old")
    log.append([first])
    places = log.append(BATCH, atomic=True)
    logs.crash(log)
    assert [place.segment for place in places] == [1, 2, 3]
    assert reopened(logs) == [first, *BATCH]
    files = logs.files()
    logs.write(3, files["00000003.seg"][:-1])
    assert reopened(logs) == [first]
    assert list(logs.files()) == ["00000001.seg"]
    assert len(logs.kept()) == 3
    assert b"".join(logs.kept().values()).count(b"\1" * 300) == 1
    assert reopened(logs) == [first]
    log, _ = logs.open()
    log.append(BATCH, atomic=True)
    log.close()
    assert logs.open()[1] == [first, *BATCH]


@pytest.mark.parametrize("segments", [1, 2])
def test_a_batch_whose_last_segments_never_came_is_dropped(logs, segments):
    log = logs.make("binary", 512)
    log.append([Put(b"k", b"old")])
    log.append(BATCH, atomic=True)
    logs.crash(log)
    for number in range(3, segments, -1):
        os.unlink(logs.segment(number))
    assert reopened(logs) == [Put(b"k", b"old")]


def test_records_that_are_no_batch_survive_one_by_one(logs):
    log = logs.make("binary", 512)
    log.append(BATCH)
    logs.crash(log)
    logs.write(3, logs.files()["00000003.seg"][:-1])
    assert reopened(logs) == BATCH[:2]


def test_damage_in_the_middle_names_segment_and_offset(logs, form):
    places = written(logs, form)
    whole = logs.files()["00000001.seg"]
    for place in places[:-1]:
        damaged = bytearray(whole)
        damaged[place.offset] ^= 0x80
        logs.write(1, damaged)
        with pytest.raises(CorruptionError, match=rf"00000001\.seg .*offset {place.offset}:"):
            logs.open()
        assert logs.files() == {"00000001.seg": bytes(damaged)}
        assert logs.kept() == {}


@pytest.mark.parametrize("size", [0, 10, 63, 64, 70, -1])
def test_a_closed_segment_that_is_short_is_corruption(logs, size):
    written(logs, "binary", [Put(b"k", bytes(400))] * 3, 512)
    logs.write(2, logs.files()["00000002.seg"][:size])
    with pytest.raises(CorruptionError, match=r"0000000[23]\.seg"):
        logs.open()


def test_a_missing_segment_is_named(logs, form):
    written(logs, form, [Put(b"k", b"v" * 400)] * 3, 512)
    for number in (1, 2):
        data = logs.files()[f"{number:08}.seg"]
        os.unlink(logs.segment(number))
        with pytest.raises(CorruptionError, match=rf"{number:08}\.seg is missing"):
            logs.open()
        logs.write(number, data)


def test_a_segment_that_a_list_leaves_out_is_looked_for(logs, form):
    """Two segments may come while a reader lists them, and only the second be seen."""
    written(logs, form, [Put(b"k", b"v" * 400)] * 3, 512)

    class Listing(Disk):
        def list(self, path):
            return [name for name in super().list(path) if name != "00000002.seg"]

    _, records = logs.open(Listing(), writable=False)
    assert len(records) == 3
    os.unlink(logs.segment(2))
    with pytest.raises(CorruptionError, match=r"00000002\.seg is missing"):
        logs.open(Listing(), writable=False)


def test_a_missing_last_segment_after_a_clean_close_is_corruption(logs, form):
    written(logs, form, [Put(b"k", b"v" * 400)] * 3, 512)
    logs.open()[0].close()
    os.unlink(logs.segment(3))
    with pytest.raises(CorruptionError):
        logs.open()


def test_a_log_cut_after_a_clean_close_has_a_torn_tail(logs, form, caplog):
    """Whoever cuts a file by hand gets what a crash would have left, but not silently."""
    places = written(logs, form)
    logs.open()[0].close()
    cut = logs.files()["00000001.seg"][: places[-1].offset + 3]
    logs.write(1, cut)
    assert reopened(logs) == RECORDS[:-1]
    assert list(logs.kept()) == [f"00000001.seg.{len(cut) - 3}", "clean"]
    assert next(iter(logs.kept().values())) == cut[-3:]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "00000001.seg has lost its last" in caplog.text
    assert not os.path.exists(logs.paths.clean)


def test_a_cut_segment_header_after_a_clean_close_is_cut_once_and_for_all(logs):
    written(logs, "binary", [Put(b"k", bytes(400))] * 2, 512)
    logs.open()[0].close()
    logs.write(2, logs.files()["00000002.seg"][:40])
    for _ in range(2):
        assert reopened(logs) == [Put(b"k", bytes(400))]
    assert list(logs.kept()) == ["00000002.seg.0", "clean"]


def holed(logs, *, synced):
    """Write five records, lose the sector in which the third one ends, and die."""
    log = logs.make("binary", 4096)
    places = []
    for number in range(5):
        places += log.append([Put(b"%d" % number, b"x" * 300)])
        if number == 3 and synced:
            log.sync()
    logs.crash(log)
    data = bytearray(logs.files()["00000001.seg"])
    sector = (places[2].offset + places[2].length) // 512 * 512
    data[sector - 512 : sector] = bytes(512)
    logs.write(1, bytes(data))
    return [place for place in places if place.offset + place.length <= sector - 512]


def test_a_hole_in_what_was_not_synced_is_cut(logs):
    whole = holed(logs, synced=False)
    assert reopened(logs) == [Put(b"%d" % number, b"x" * 300) for number in range(len(whole))]
    assert len(logs.kept()) == 1


def test_a_hole_in_what_was_synced_is_corruption(logs):
    holed(logs, synced=True)
    with pytest.raises(CorruptionError, match="damaged at offset"):
        logs.open()


@pytest.mark.parametrize("swap", [(1, 2), (2, 3)])
def test_segments_that_changed_places_are_corruption(logs, swap):
    written(logs, "binary", [Put(b"%d" % n, bytes(400)) for n in range(3)], 512)
    one, two = (logs.files()[f"{number:08}.seg"] for number in swap)
    logs.write(swap[0], two)
    logs.write(swap[1], one)
    with pytest.raises(CorruptionError, match="says that it is number"):
        logs.open()


def test_a_segment_of_another_store_is_corruption(logs):
    places = written(logs, "binary")
    assert places
    logs.config = logs.config._replace(id=b"x" * 16)
    with pytest.raises(CorruptionError, match="another store"):
        logs.open()


def test_other_files_beside_the_segments_are_left_alone(logs):
    written(logs, "text")
    for name in ("1.seg", "000000002.seg", "00000002.seg.bak", "notes"):
        with open(os.path.join(logs.paths.segments, name), "wb") as file:
            file.write(b"?")
    assert reopened(logs) == RECORDS
    assert len(logs.files()) == 5


def test_a_flip_at_the_end_after_a_clean_close_is_corruption(logs):
    places = written(logs, "binary")
    logs.open()[0].close()
    whole = logs.files()["00000001.seg"]
    for at in range(places[-1].offset, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        logs.write(1, damaged)
        with pytest.raises(CorruptionError, match=rf"offset {places[-1].offset}:"):
            logs.open()
    assert logs.kept() == {}


def test_a_damaged_line_at_the_end_after_a_clean_close_is_corruption(logs):
    places = written(logs, "text")
    logs.open()[0].close()
    data = bytearray(logs.files()["00000001.seg"])
    data[places[-1].offset] = ord("?")
    logs.write(1, data)
    with pytest.raises(CorruptionError, match=rf"offset {places[-1].offset}:"):
        logs.open()


def test_the_clean_marker_goes_before_the_next_record(logs, form):
    written(logs, form)
    logs.open()[0].close()
    assert os.path.exists(logs.paths.clean)
    log, _ = logs.open()
    assert os.path.exists(logs.paths.clean)
    log.append([Delete(b"c")])
    assert not os.path.exists(logs.paths.clean)
    logs.crash(log)
    whole = logs.files()["00000001.seg"]
    logs.write(1, whole[:-1])
    assert reopened(logs) == RECORDS


@pytest.mark.parametrize("content", [b"", b"x y", b"1", b"\xff 1 1"])
def test_a_damaged_marker_is_no_marker(logs, form, content):
    written(logs, form)
    with open(logs.paths.clean, "wb") as file:
        file.write(content)
    assert reopened(logs) == RECORDS
