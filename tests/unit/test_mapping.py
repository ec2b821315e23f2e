from collections.abc import MutableMapping

import pytest

import kvfs


@pytest.fixture(params=["binary", "text"])
def store(request, tmp_path):
    with kvfs.open(tmp_path / "store", format=request.param) as opened:
        yield opened


def test_a_store_is_a_mutable_mapping(store):
    assert isinstance(store, MutableMapping)
    store["a"] = "1"
    store[b"b"] = b"2"
    assert store["a"] == b"1"
    assert dict(store) == {b"a": b"1", b"b": b"2"}
    assert store.setdefault("b", b"x") == b"2"
    assert store.setdefault("c", b"3") == b"3"
    assert store.pop("c") == b"3"
    assert store.pop("c", None) is None
    del store["a"]
    assert list(store) == [b"b"]
    store.update({"d": "4"}, e="5")
    assert list(store.values()) == [b"2", b"4", b"5"]
    assert store.popitem() == (b"b", b"2")
    store.clear()
    assert len(store) == 0


def test_what_is_missing_is_a_key_error(store):
    for attempt in (
        lambda: store["a"],
        lambda: store.pop("a"),
        store.popitem,
        lambda: store.__delitem__("a"),
    ):
        with pytest.raises(KeyError):
            attempt()
    assert store.get("a") is None
    assert store.get("a", 7) == 7


def test_views_are_sorted_live_and_like_those_of_a_dict(store):
    keys, items = store.keys(), store.items("b")
    store.update({b"b2": b"2", b"a": b"0", b"b1": b"1"})
    assert list(keys) == [b"a", b"b1", b"b2"]
    assert len(keys) == 3
    assert keys & {b"a", b"x"} == {b"a"}
    assert "a" in keys
    assert "a" not in store.keys("b")
    assert 7 not in keys
    assert list(items) == [(b"b1", b"1"), (b"b2", b"2")]
    assert len(items) == 2
    assert (b"b1", b"1") in items
    assert (b"b1", b"2") not in items
    assert (b"a", b"0") not in items
    assert b"0" in store.values()
    assert b"9" not in store.values()


def test_two_stores_are_the_same_only_if_they_are_one(store, tmp_path):
    with kvfs.open(tmp_path / "other") as other:
        assert store != other
        assert len({store, other, store}) == 2


def test_what_is_neither_text_nor_bytes_is_no_key(store):
    for attempt in (lambda: store[7], lambda: 7 in store, lambda: store.put("a", 7)):
        with pytest.raises(TypeError, match="is bytes or str, not int"):
            attempt()
