"""Transactions: all or nothing, first come first served, and never a log that does not apply."""

import errno

import pytest
from staging import ME, ROOT, begin, directory, finish, tree, write

import kvfs
from kvfs.errors import ConflictError, KvfsError, NoSpaceError
from kvfs.records import Attrs
from kvfs.store import staged
from kvfs.store.files import RENAME_EXCHANGE, Owner


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    with kvfs.open(path, max_segment_size=1 << 20) as opened:
        yield opened


def test_nothing_is_seen_before_and_all_of_it_after(store, path):
    store.update({"a": "1", "d/x": "old"})
    transaction, inside = begin(store)
    files = inside.files
    assert inside["a"] == b"1"
    write(files, [b"a"], b"2")
    write(files, [b"new"], b"x" * 300_000)
    files.unlink(directory(files, [b"d"]), b"x")
    files.mkdir(ROOT, b"e", Owner(0, 0, 0o700))
    files.symlink(ROOT, b"link", b"a", ME)
    files.rename((ROOT, b"new"), (directory(files, [b"e"]), b"moved"), 0)
    files.setxattr(files.lookup(ROOT, b"a"), b"user.x", b"1")
    assert inside["e/moved"] == b"x" * 300_000
    assert dict(store.items()) == {b"a": b"1", b"d/x": b"old"}
    wanted = tree(inside)
    store.put("other", "1")  # no conflict
    store.files.expire(1)
    transaction.commit()
    finish(transaction)
    del wanted[("key", b"a")]
    found = tree(store)
    assert found.pop((b"other",))[2] == b"1"
    found.pop(("key", b"other"))
    found.pop(("key", b"a"))
    assert found == wanted
    final = tree(store)
    store.close()
    with kvfs.open(path) as again:
        assert tree(again) == final


def test_what_is_forgotten_leaves_no_trace(store):
    store.put("a", "1")
    records = store.position
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"2")
    finish(transaction)
    assert store.position == records
    assert store["a"] == b"1"
    assert not store._core.witnesses


def test_who_comes_second_is_refused_and_nothing_happens(store):
    store.update({"a": "1", "b": "1"})
    first, one = begin(store)
    second, two = begin(store)
    write(one.files, [b"a"], b"first")
    write(two.files, [b"b"], b"second")
    write(two.files, [b"a"], b"second")
    first.commit()
    records = store.position
    with pytest.raises(ConflictError, match="'a' was changed by another"):
        second.commit()
    assert store.position == records
    assert dict(store.items()) == {b"a": b"first", b"b": b"1"}
    finish(first)
    finish(second)


def test_a_file_that_is_being_written_is_a_conflict(store):
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"1")
    node = store.files.create(ROOT, b"a", ME)
    with pytest.raises(ConflictError):
        transaction.commit()
    store.files.content.commit(node)
    with pytest.raises(ConflictError):
        transaction.commit()
    finish(transaction)


def test_reading_is_no_conflict(store):
    store.put("a", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"2")
    store.files.access_times.note(store._core.table.find(b"a"))
    store.files.access_times.commit()
    transaction.commit()
    finish(transaction)
    assert store["a"] == b"2"


def test_conditions_are_checked_at_the_commit(store):
    store.put("a", "1")
    seen = store.version("a")
    store.put("a", "2")
    for condition, refused in ((seen, True), ("", True), (store.version("a"), False)):
        transaction, inside = begin(store)
        node = write(inside.files, [b"a"], b"3")
        inside.files.setxattr(node, b"user.kvfs.if-version", condition.encode())
        if refused:
            with pytest.raises(ConflictError):
                transaction.commit()
        else:
            transaction.commit()
        finish(transaction)
    assert store["a"] == b"3"


def test_a_full_disk_leaves_the_transaction_to_be_tried_again(store, monkeypatch):
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"1")

    def refuse(*_args, **_kwargs):
        raise NoSpaceError

    with monkeypatch.context() as patch:
        patch.setattr(store._core.log, "append_one", refuse)
        with pytest.raises(NoSpaceError):
            transaction.commit()
    assert "a" not in store
    transaction.commit()
    finish(transaction)
    assert store["a"] == b"1"


def test_a_transaction_takes_so_many_bytes(store, monkeypatch):
    monkeypatch.setattr(staged, "MOST", 1000)
    transaction, inside = begin(store)
    write(inside.files, [b"a"], b"x" * 900)
    with pytest.raises(NoSpaceError, match="no room for more than 1000 bytes"):
        write(inside.files, [b"b"], b"x" * 200)
    finish(transaction)


def test_a_text_store_has_none(tmp_path):
    with kvfs.open(tmp_path / "text", format="text") as store:
        with pytest.raises(KvfsError) as refused:
            store.transaction()
        assert refused.value.errno == errno.EOPNOTSUPP


def test_numbers_are_never_given_twice(store, path):
    transaction, inside = begin(store)
    for number in range(5):
        inside.files.mkdir(ROOT, b"d%d" % number, ME)
        write(inside.files, [b"d%d" % number, b"x"], b"1")
    kept = store.files.create(ROOT, b"open", ME)  # the log does not know it yet
    store.put("live", "1")
    transaction.commit()
    finish(transaction)
    store.files.content.commit(kept)
    store.put("after/wards", "1")
    numbers = sorted(store._core.table.nodes)
    assert len(numbers) == len(set(numbers))
    versions = {key: store.version(key) for key in store}
    store.close()
    with kvfs.open(path) as again:
        assert sorted(again._core.table.nodes) == numbers
        assert {key: again.version(key) for key in again} == versions


CLASHES = {
    "put below, directory renamed": (
        lambda files: write(files, [b"d", b"new"], b"1"),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
    ),
    "put below, directory exchanged": (
        lambda files: write(files, [b"d", b"new"], b"1"),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"e"), RENAME_EXCHANGE),
    ),
    "put below, directory removed": (
        lambda files: write(files, [b"e", b"new"], b"1"),
        lambda files: files.rmdir(ROOT, b"e"),
    ),
    "mode below, directory renamed": (
        lambda files: files.setattr(
            files.lookup(directory(files, [b"d"]), b"x"), Attrs(mode=0o600)
        ),
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
    ),
    "directory renamed, put below": (
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"g"), 0),
        lambda files: write(files, [b"d", b"new"], b"1"),
    ),
    "renamed over an empty directory, put into it": (
        lambda files: files.rename((ROOT, b"d"), (ROOT, b"e"), 0),
        lambda files: write(files, [b"e", b"new"], b"1"),
    ),
    "directory removed, put below": (
        lambda files: files.rmdir(ROOT, b"e"),
        lambda files: write(files, [b"e", b"new"], b"1"),
    ),
    "mode of a directory, removed": (
        lambda files: files.setattr(files.lookup(ROOT, b"e"), Attrs(mode=0o700)),
        lambda files: files.rmdir(ROOT, b"e"),
    ),
    "directory made, value put there": (
        lambda files: files.mkdir(ROOT, b"n", ME),
        lambda files: write(files, [b"n"], b"1"),
    ),
    "value put, directory made there": (
        lambda files: write(files, [b"n"], b"1"),
        lambda files: files.mkdir(ROOT, b"n", ME),
    ),
    "renamed, the target put": (
        lambda files: files.rename((ROOT, b"a"), (ROOT, b"n"), 0),
        lambda files: write(files, [b"n"], b"1"),
    ),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_what_does_not_go_together_is_refused(store, clash):
    files = store.files
    for name in (b"d", b"e"):
        files.mkdir(ROOT, name, Owner(0, 0, 0o755))
    write(files, [b"d", b"x"], b"1")
    write(files, [b"a"], b"1")
    mine, theirs = CLASHES[clash]
    transaction, inside = begin(store)
    mine(inside.files)
    theirs(files)
    before = tree(store)
    with pytest.raises(ConflictError):
        transaction.commit()
    assert tree(store) == before
    finish(transaction)


def test_both_may_make_names_in_a_directory_that_only_keys_imply(store):
    store.put("d/x", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"d", b"mine"], b"1")
    write(store.files, [b"d", b"theirs"], b"1")
    store.delete("d/x")
    transaction.commit()
    finish(transaction)
    assert list(store) == [b"d/mine", b"d/theirs"]


def test_a_directory_that_somebody_makes_a_file_in_is_not_removed(store, path):
    for name in (b"d", b"e"):
        store.files.mkdir(ROOT, name, Owner(0, 0, 0o755))
    first, one = begin(store)
    one.files.rmdir(ROOT, b"d")
    second, two = begin(store)
    two.files.rename((ROOT, b"e"), (ROOT, b"d"), 0)
    node = store.files.create(directory(store.files, [b"d"]), b"new", ME)  # not logged yet
    for transaction in (first, second):
        with pytest.raises(ConflictError, match="'d/new'"):
            transaction.commit()
        finish(transaction)
    store.files.content.commit(node)
    store.close()
    with kvfs.open(path) as again:
        assert again["d/new"] == b""


def test_a_directory_that_went_with_its_last_key_is_made_again(store, path):
    store.put("d/e/x", "1")
    transaction, inside = begin(store)
    write(inside.files, [b"d", b"e", b"y"], b"1")
    store.delete("d/e/x")
    kept = store.files.create(ROOT, b"open", ME)  # has a number, of which the log does not know
    transaction.commit()
    finish(transaction)
    store.files.content.commit(kept)
    numbers = sorted(store.table.nodes)
    versions = {key: store.version(key) for key in store}
    store.close()
    with kvfs.open(path) as again:
        assert sorted(again.table.nodes) == numbers
        assert {key: again.version(key) for key in again} == versions


def test_a_file_in_a_directory_that_is_renamed_has_another_version(store):
    for number in range(20):
        name = b"d%d" % number
        for _ in range(50):  # within one tick of the clock, ahead of which its time gets
            store.put(name + b"/x", "1")
        seen = store.version(name + b"/x")
        transaction, inside = begin(store)
        inside.files.rename((ROOT, name), (ROOT, b"moved"), 0)
        write(inside.files, [b"moved", b"x"], b"2")
        transaction.commit()
        finish(transaction)
        assert store.version(b"moved/x") != seen
        store.delete(b"moved/x")


def test_the_root_is_always_there(store):
    transaction, inside = begin(store)
    inside.files.setattr(inside.files.directory(ROOT), Attrs(mode=0o700))
    store.put("a", "1")
    transaction.commit()
    finish(transaction)
