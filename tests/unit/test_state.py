"""A state machine: a store against a dict."""

import os
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import kvfs

KEYS = [
    b"",
    b"a",
    b"a/b",
    b"a/b/c",
    b"a/d",
    b"b",
    b"b/a",
    b".kvfs",
    b".kvfs/keys/a",
    b"..",
    b"a//b",
    b"a/..",
    b"|",
    b"%7C\n",
    b"x" * 256,
    b"y" * 400,
    b"y" * 400 + b"/",
    b"a/" + b"z" * 600,
]
key = st.sampled_from(KEYS) | st.binary(max_size=4)
value = st.binary(max_size=40) | st.builds(
    lambda part, count: part * count, st.binary(min_size=1, max_size=3), st.integers(100, 1500)
)


def die(store):
    """Let go of `store` as a dying process would: nothing is synced or marked."""
    store._core.log._failure = "the process died"
    store._core.close()


class KeyValueMachine(RuleBasedStateMachine):
    """A store and a dict, which must always agree."""

    form = "binary"
    sizes = st.integers(512, 3000)

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "store")
        self.model = {}

    @initialize(data=st.data())
    def start(self, data):
        size = data.draw(self.sizes, "max_segment_size")
        self.store = kvfs.open(self.path, format=self.form, max_segment_size=size)

    def attempt(self, action):
        """Do `action` and tell whether it happened; if not, nothing has changed."""
        try:
            action()
        except kvfs.RecordTooLargeError:
            assert dict(self.store.items()) == self.model
            return False
        return True

    @rule(key=key, value=value)
    def put(self, key, value):
        if self.attempt(lambda: self.store.put(key, value)):
            self.model[key] = value
        assert self.store.get(key) == self.model.get(key)

    @rule(key=key)
    def get(self, key):
        assert self.store.get(key) == self.model.get(key)
        assert (key in self.store) == (key in self.model)

    @rule(key=key)
    def delete(self, key):
        there = key in self.model
        if self.attempt(lambda: self._same(self.store.delete(key), there)):
            self.model.pop(key, None)
        assert self.store.get(key) == self.model.get(key)

    @rule(old=key, new=key)
    def rename(self, old, new):
        there = old in self.model
        if self.attempt(lambda: self._same(self.store.rename(old, new), there)) and there:
            self.model[new] = self.model.pop(old)
        assert self.store.get(new) == self.model.get(new)

    @rule(clean=st.booleans())
    def reopen(self, clean):
        if clean:
            self.store.close()
        else:
            die(self.store)
        self.store = kvfs.open(self.path)
        self.agree()

    @invariant()
    def count(self):
        if hasattr(self, "store"):
            assert len(self.store) == len(self.model)

    def agree(self):
        assert dict(self.store.items()) == self.model
        assert list(self.store) == sorted(self.model)
        sizes = [entry.stat().st_size for entry in os.scandir(os.path.join(self.path, "segments"))]
        assert all(size <= self.store.config.max_segment_size for size in sizes)

    @staticmethod
    def _same(result, expected):
        assert result is expected

    def teardown(self):
        if hasattr(self, "store"):
            self.agree()
            self.store.close()
        self.directory.cleanup()


class TextKeyValueMachine(KeyValueMachine):
    form = "text"
    sizes = st.integers(1, 40) | st.integers(1, 6000)


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(KeyValueMachine, 60), (TextKeyValueMachine, 60)],
)
def test_state(machine, examples):
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
