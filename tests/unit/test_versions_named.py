"""The version of a key, and what is done only if it is that."""

import errno
import threading

import pytest

import kvfs
from kvfs.errors import PosixError
from kvfs.records import Attrs
from kvfs.store.files import Owner


@pytest.fixture(params=["binary", "text"])
def form(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path, form):
    with kvfs.open(path, format=form) as opened:
        yield opened


def test_each_change_gives_another_version(store, form):
    assert store.version("a") is None
    seen = set()
    for number in range(2000):  # many in one tick of the clock
        store.put("a", str(number))
        version = store.version("a")
        assert version not in seen
        seen.add(version)
    if form == "text":
        return  # a digest of the value
    store.put("a", "1")
    first = store.version("a")
    store.put("a", "1")
    assert store.version("a") != first
    store.delete("a")
    store.put("a", "1")
    assert store.version("a") not in seen | {first}


def test_writes_in_place_and_attributes_change_the_version(path):
    with kvfs.open(path) as store:
        store.put("a", "1")
        files, node = store.files, store._core.table.find(b"a")
        seen = {store.version("a")}
        steps = (
            lambda: files.content.write(node, 0, b"2"),
            lambda: files.content.write(node, 1, b"3"),
            lambda: files.content.commit(node),
            lambda: files.content.write_through(node, 2, b"4"),
            lambda: files.content.truncate(node, 1),
            lambda: files.content.truncate(node, 0),
            lambda: files.setattr(node, Attrs(mode=0o600)),
            lambda: files.setxattr(node, b"user.x", b"1"),
            lambda: files.removexattr(node, b"user.x"),
        )
        for number, step in enumerate(steps):
            step()
            if number != 2:  # to log what was written changes nothing
                assert store.version("a") not in seen
            seen.add(store.version("a"))


def test_a_version_stays_over_restarts_and_checkpoints(path, form):
    with kvfs.open(path, format=form) as store:
        for number in range(300):
            store.put(f"k{number}", "1")
        store.put("k7", "2")
        versions = {key: store.version(key) for key in store}
    for every in (None, 10):
        with kvfs.open(path, checkpoint_every=every) as store:
            assert {key: store.version(key) for key in store} == versions
            store.put("other", "x")
            store.delete("other")
    with kvfs.open(path, read_only=True) as store:
        assert {key: store.version(key) for key in store} == versions


def test_a_put_that_names_another_version_changes_nothing(store):
    store.put("a", "1")
    seen = store.version("a")
    store.put("a", "2", if_version=seen)
    for wrong in (seen, None, "", "x"):
        with pytest.raises(kvfs.ConflictError) as refused:
            store.put("a", "3", if_version=wrong)
        assert refused.value.errno == errno.ECANCELED
        with pytest.raises(kvfs.ConflictError):
            store.delete("a", if_version=wrong)
    assert store.get("a") == b"2"
    with pytest.raises(kvfs.ConflictError):
        store.put("b", "1", if_version=seen)
    store.put("b", "1", if_version=None)
    assert store.delete("a", if_version=store.version("a"))
    assert dict(store.items()) == {b"b": b"1"}


def test_counting_by_compare_and_swap_loses_nothing(store):
    store.put("n", "0")

    def count():
        for _ in range(50):
            while True:
                version = store.version("n")
                number = int(store.get("n"))
                try:
                    store.put("n", str(number + 1), if_version=version)
                    break
                except kvfs.ConflictError:
                    continue

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("n") == b"200"


def test_a_rename_of_a_file_with_a_condition(store):
    files = store.files
    store.put("a", "1")
    version = store.version("a")
    files.create(1, b"t", Owner(0, 0, 0o644), keep_back=False)
    node = files.lookup(1, b"t")
    files.setxattr(node, b"user.kvfs.if-version", version.encode())
    assert files.getxattr(node, b"user.kvfs.if-version") == version.encode()
    assert not node.xattrs
    store.put("a", "2")
    with pytest.raises(kvfs.ConflictError):
        files.rename((1, b"t"), (1, b"a"), 0)
    with pytest.raises(kvfs.ConflictError):
        files.rename((1, b"t"), (1, b"nothing"), 0)
    files.setxattr(node, b"user.kvfs.if-version", b"")
    with pytest.raises(kvfs.ConflictError):
        files.rename((1, b"t"), (1, b"a"), 0)
    files.rename((1, b"t"), (1, b"nothing"), 0)
    with pytest.raises(PosixError):  # it holds once
        files.getxattr(node, b"user.kvfs.if-version")
    files.rename((1, b"nothing"), (1, b"a"), 0)
    assert store.get("a") == b""


def test_the_attributes_that_are_kvfs_own(store):
    store.put("a", "1")
    files, node = store.files, store._core.table.find(b"a")
    assert files.getxattr(node, b"user.kvfs.version").decode() == store.version("a")
    for name, code in ((b"version", errno.EPERM), (b"other", errno.EOPNOTSUPP)):
        with pytest.raises(PosixError) as refused:
            files.setxattr(node, b"user.kvfs." + name, b"1")
        assert refused.value.errno == code
    for name in (b"ttl", b"expires", b"if-version", b"other"):
        with pytest.raises(PosixError) as refused:
            files.getxattr(node, b"user.kvfs." + name)
        assert refused.value.errno == errno.ENODATA
        with pytest.raises(PosixError):
            files.removexattr(node, b"user.kvfs." + name)
    with pytest.raises(PosixError) as refused:
        files.removexattr(node, b"user.kvfs.version")
    assert refused.value.errno == errno.EPERM
    directory = files.mkdir(1, b"d", Owner(0, 0, 0o755))
    with pytest.raises(PosixError):
        files.getxattr(directory, b"user.kvfs.version")
    with pytest.raises(PosixError):
        files.setxattr(directory, b"user.kvfs.ttl", b"1")
    assert store.get("a") == b"1"


def test_a_value_that_a_batch_moves_and_replaces_has_another_version(path):
    with kvfs.open(path) as store:
        for number in range(20):  # some of them within one tick of the clock
            store.put("a", "1")
            seen = store.version("a")
            with store.batch():
                store.rename("a", "b")
                store.put("b", b"%d" % number)
                store.rename("b", "a")
            assert store.version("a") != seen
