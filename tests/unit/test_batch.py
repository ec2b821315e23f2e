import errno
import os
import shutil
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvfs
from kvfs.errors import ClosedError, ConflictError, KvfsError, NoSpaceError
from kvfs.records import Link, Mkdir
from kvfs.store import open_store
from kvfs.store.files import Owner

KEYS = ["a", "b", "a/b", "a/b/c", "d/e", "d//e", "..", "f", "a/f"]
VALUES = [b"", b"1", b"x" * 300]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(KEYS), st.sampled_from(KEYS)),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def do(store, model, step):
    """Do `step` to the store and to a dict, which must answer alike."""
    what, key, other = step
    if what == "put":
        store.put(key, other)
        model[key.encode()] = other
    elif what == "delete":
        assert store.delete(key) == (model.pop(key.encode(), None) is not None)
    else:
        found = key.encode() in model
        assert store.rename(key, other) == found
        if found:
            model[other.encode()] = model.pop(key.encode())


def shown(store):
    assert len(store) == len(list(store))
    for key in KEYS:
        assert (key in store) == (store.get(key) is not None)
    return dict(store.items())


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from(["batch", "failed", "single"]), st.lists(STEPS, max_size=8)),
        max_size=6,
    )
)
def test_batches_do_what_their_steps_do_one_by_one(tmp_path_factory, rounds):
    path = tmp_path_factory.mktemp("batches") / "store"
    model = {}
    store = kvfs.open(path, max_segment_size=2000)
    for kind, steps in rounds:
        after = dict(model)
        if kind == "single":
            for step in steps:
                do(store, after, step)
        else:
            try:
                with store.batch():
                    for step in steps:
                        do(store, after, step)
                        assert shown(store) == after
                    if kind == "failed":
                        raise InterruptedError
            except InterruptedError:
                after = model
        model = after
        assert shown(store) == model
        store.close()
        store = kvfs.open(path)
        assert shown(store) == model
    numbers = {key: store.version(key) for key in store}
    store.close()
    with kvfs.open(path) as store:
        assert {key: store.version(key) for key in store} == numbers


def test_a_log_that_ends_within_a_batch_has_nothing_of_it(path, tmp_path):
    with kvfs.open(path) as store:
        store.put("a", "1")
    segment = path / "segments" / "00000001.seg"
    before = segment.stat().st_size
    with kvfs.open(path) as store, store.batch():
        store.put("a", "2")
        store.put("b", b"x" * 200_000)  # several records
        store.put("c/d", "3", ttl=1000)
        store.rename("a", "e/f")
        store.delete("b")
    whole = segment.stat().st_size
    cuts = [*range(before, before + 200), *range(before + 200, whole, 997), whole - 1, whole]
    for cut in cuts:
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        os.truncate(copy / "segments" / "00000001.seg", cut)
        os.unlink(copy / "clean")
        with kvfs.open(copy) as store:
            wanted = {b"c/d": b"3", b"e/f": b"2"} if cut == whole else {b"a": b"1"}
            assert dict(store.items()) == wanted
        shutil.rmtree(copy)


def test_others_wait_for_the_end_of_a_batch(path):
    with kvfs.open(path) as store:
        seen = []
        inside, asked = threading.Event(), threading.Event()

        def other():
            inside.wait()
            asked.set()
            seen.append(store.get("b"))

        thread = threading.Thread(target=other)
        thread.start()
        with store.batch():
            store.put("a", "1")
            inside.set()
            asked.wait()
            store.put("b", "2")
        thread.join()
        assert seen == [b"2"]


def test_a_batch_that_is_refused_leaves_nothing(path, monkeypatch):
    with kvfs.open(path) as store:
        store.put("a", "1")

        def refuse(*_args, **_kwargs):
            raise NoSpaceError

        with monkeypatch.context() as patch, pytest.raises(NoSpaceError):  # noqa: PT012
            patch.setattr(store._core.log, "append", refuse)
            with store.batch():
                store.put("a", "2")
                store.put("b", "2")
        assert dict(store.items()) == {b"a": b"1"}
        with store.batch():
            store.put("b", "3")
        assert store.get("b") == b"3"


def test_what_cannot_be_is_refused_and_the_batch_may_go_on(path):
    with kvfs.open(path) as store:
        store._core.commit(Mkdir(b"d", time=1))
        files = store.files
        files.symlink(1, b"link", b"a", Owner(0, 0, 0))
        with store.batch():
            store.put("a", "1")
            with pytest.raises(kvfs.NotAValueError):
                store.put("link", "1")
            with pytest.raises(kvfs.NotAValueError):
                store.rename("a", "link")
            with pytest.raises(kvfs.KeyTooLongError):
                store.put("k" * 70_000, "1")
            store.put("d", "a value beside a directory")
        assert dict(store.items()) == {b"a": b"1", b"d": b"a value beside a directory"}


def test_an_inode_that_has_two_names_keeps_both(path):
    with kvfs.open(path) as store:
        store.put("a", "1")
        store._core.move(Link(b"a", b"b", 5))
        with store.batch():
            store.put("a", "2")
            store.delete("b")
        assert dict(store.items()) == {b"a": b"2"}


def test_a_batch_of_a_batch_a_closed_and_a_text_store(path, tmp_path):
    store = kvfs.open(path)
    with store.batch(), pytest.raises(KvfsError) as refused, store.batch():
        pass
    assert refused.value.errno == errno.EBUSY
    with pytest.raises(ClosedError), store.batch():  # noqa: PT012
        store.put("a", "1")
        store.close()
    with open_store(path) as again:
        assert not again
    with kvfs.open(tmp_path / "text", format="text") as text:
        with pytest.raises(KvfsError) as refused, text.batch():
            pass
        assert refused.value.errno == errno.EOPNOTSUPP
    with kvfs.open(path, read_only=True) as reading, pytest.raises(kvfs.ReadOnlyError):
        with reading.batch():
            pass


def test_versions_in_a_batch_are_those_of_before(path):
    with kvfs.open(path) as store:
        store.put("a", "1")
        seen = store.version("a")
        with store.batch():
            store.put("a", "2", if_version=seen)
            store.put("b", "1", if_version=None)
            with pytest.raises(ConflictError):
                store.put("a", "3", if_version="1.1")
        assert dict(store.items()) == {b"a": b"2", b"b": b"1"}
        assert store.version("a") != seen


def test_pieces_in_a_batch_are_those_of_what_it_has_put(path):
    with kvfs.open(path) as store:
        store.update({"a": "old", "gone": "old"})
        with store.batch():
            store["a"] = "newer"
            store["empty"] = ""
            del store["gone"]
            assert list(store.chunks("a", 2)) == [b"ne", b"we", b"r"]
            assert list(store.chunks("empty")) == []
            assert store.chunks("gone") is None
        assert list(store.chunks("a", 2)) == [b"ne", b"we", b"r"]
