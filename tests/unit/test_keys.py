import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvfs import keys
from kvfs.errors import KeyTooLongError

ILLEGAL = [
    b"",
    b"/",
    b"a/",
    b"/a",
    b"a//b",
    b".",
    b"..",
    b"a/..",
    b"./a",
    b"a/../b",
    b"a\0b",
    b"x" * 256,
    b"a/" + b"x" * 256,
    b".kvfs",
    b".kvfs/keys/a",
]
LEGAL = [
    b"a",
    b"a/b",
    b"...",
    b".a",
    b"a\nb",
    b"a|b",
    b"%2F",
    b"=",
    b"\xff",
    b" ",
    b"x" * 255,
    b".kvfsx",
    b".kvf",
    b"a/.kvfs",
    b"a/.kvfs/b",
    b"\n",
    b"a\n",
]
any_key = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from([b"a", b".", b"/", b"%", b"=", b"+", b"\0", b".kvfs", b"%2F"])).map(
        b"".join
    ),
    st.builds(
        lambda part, count: part * count, st.binary(min_size=1, max_size=3), st.integers(1, 900)
    ),
)
any_name = st.one_of(
    st.binary(max_size=8),
    st.lists(st.sampled_from([b"a", b".", b"%2E", b"%2e", b"%61", b"%", b"=", b"+"])).map(b"".join),
    st.sampled_from([b"x" * 254 + b"+", b"x" * 254, b"x" * 255, b"x" * 253 + b"+"]),
)


@given(any_key)
@example(b"")
@example(b".")
@example(b"." * 300)
@example(b"\0" * keys.MAX_KEY)
@example(b"x" * 254)
@example(b"x" * 255)
@example(b"x" * 508)
def test_every_key_comes_back_from_its_names(key):
    assert keys.decode(keys.encode(key)) == key


@given(any_key, any_key)
def test_two_keys_never_share_their_names(one, other):
    assert (keys.encode(one) == keys.encode(other)) == (one == other)


@given(any_key)
@example(b"." * 255)
def test_every_encoded_name_is_a_legal_file_name(key):
    for name in keys.encode(key):
        assert 0 < len(name) <= keys.MAX_NAME
        assert name not in {b".", b".."}
        assert b"/" not in name
        assert b"\0" not in name


@given(st.lists(any_name, min_size=1, max_size=3))
@example([b"%61"])
@example([b"%2f"])
@example([b"%"])
@example([b"a+"])
@example([b"+"])
@example([b"."])
@example([b".."])
@example([b"x" * 255])
@example([b"x" * 254 + b"+"])
@example([b"", b"a"])
@example([b"=", b"="])
def test_only_canonical_names_decode(names):
    key = keys.decode(names)
    assert key is None or keys.encode(key) == names


@pytest.mark.parametrize(
    "names",
    [[b"%61"], [b"%2f"], [b"%"], [b"+"], [b"."], [b".."], [b"x" * 255], [b""], [b"a", b"b"], []],
)
def test_other_names_decode_to_none(names):
    assert keys.decode(names) is None


def test_names_of_a_key_over_the_limit_decode_to_none():
    assert keys.decode(keys.encode(b"x" * keys.MAX_KEY)) is not None
    assert keys.decode(keys.encode(b"x" * (keys.MAX_KEY + 1))) is None


def test_the_empty_key_and_the_key_of_its_name_differ():
    assert keys.encode(b"") == [b"="]
    assert keys.encode(b"=") != [b"="]


@pytest.mark.parametrize("key", LEGAL)
def test_legal_keys_are_paths_unchanged(key):
    names = keys.split(key)
    assert names is not None
    assert b"/".join(names) == key


@pytest.mark.parametrize("key", ILLEGAL)
def test_illegal_keys_are_no_paths(key):
    assert keys.split(key) is None


@pytest.mark.parametrize("key", LEGAL)
def test_legal_keys_name_files_on_linux(tmp_path, key):
    path = os.path.join(os.fsencode(tmp_path), key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb"):
        pass
    assert os.path.isfile(path)


@given(any_key)
def test_every_component_of_a_legal_key_is_a_file_name(key):
    for name in keys.split(key) or ():
        assert 0 < len(name) <= keys.MAX_NAME
        assert name not in {b".", b".."}
        assert b"\0" not in name


def test_long_keys_are_cut_into_pieces():
    names = keys.encode(b"x" * 600)
    assert [len(name) for name in names] == [255, 255, 600 - 2 * 254]
    assert all(keys.is_piece(name) for name in names[:-1])
    assert not keys.is_piece(names[-1])


@given(any_key)
def test_all_names_but_the_last_are_pieces(key):
    *directories, file = keys.encode(key)
    assert all(keys.is_piece(name) for name in directories)
    assert not keys.is_piece(file)


def test_the_longest_key_is_taken_and_the_next_refused():
    assert keys.check(b"x" * 65_535) == b"x" * 65_535
    with pytest.raises(KeyTooLongError, match="65536"):
        keys.check(b"x" * 65_536)
