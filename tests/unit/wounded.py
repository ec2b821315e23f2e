"""Small stores, and damage to one place of them."""

import pytest

import kvfs


def values(path):
    with kvfs.open(path, read_only=True) as store:
        return dict(store.items())


def small(path, **kwargs):
    kvfs.init(path, **kwargs)
    return kvfs.open(path)


def flip(path, text, *, behind=0):
    """Flip a bit of the last place in the log where `text` stands."""
    for file in sorted((path / "segments").iterdir(), reverse=True):
        data = bytearray(file.read_bytes())
        at = data.rfind(text)
        if at >= 0:
            data[at + behind] ^= 1
            file.write_bytes(data)
            return
    pytest.fail(f"{text} is not in the log")


def one_lost(path, **kwargs):
    """Make a store that has lost the second of its two keys."""
    with small(path, **kwargs) as store:
        store.put("a", "1")
        store.put("b", "NEWER")
    flip(path, b"NEWER")
