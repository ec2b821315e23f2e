"""A state machine: what the file interface shows against a replay of its log."""

import os
import stat
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import kvfs
from kvfs.errors import PosixError
from kvfs.records import Attrs
from kvfs.store.files import Owner
from kvfs.table import CONTROL_INO, KEYS_INO, Directory, File

PIECES = 1 << 62


def die(store):
    """Let go of `store` as a dying process would: nothing is synced or marked."""
    store._core.log._failure = "the process died"
    store._core.close()


name = st.sampled_from([b"a", b"b", b"c"])
owner = st.builds(
    Owner,
    st.sampled_from([0, 7]),
    st.sampled_from([0, 8]),
    st.sampled_from([0o644, 0o755, 0o600, 0o2775]),
)
some_time = st.none() | st.sampled_from([-5, 0, 10**18, 2**61])
some_attrs = st.builds(
    Attrs,
    mode=st.none() | st.sampled_from([0o600, 0o4755]),
    uid=st.none() | st.just(9),
    gid=st.none() | st.just(9),
    atime=some_time,
    mtime=some_time,
    ctime=st.none(),
    born=st.none(),
    ino=st.none(),
)
path_key = st.sampled_from([b"a", b"a/b", b"a/b/c", b"b/a", b"c", b"..", b""])


class FilesMachine(RuleBasedStateMachine):
    """What the file interface shows must be what a replay of its log shows."""

    form = "binary"
    size = 512
    times = True

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "store")
        kvfs.init(self.path, format=self.form, max_segment_size=self.size)
        self.clock = None
        self.contents = {}
        self.untimed = set()
        self.start()

    def start(self):
        self.store = kvfs.open(self.path)
        self.files = self.store.files
        self.table = self.store._core.table
        self.open = set()
        self.clock = self.clock or self.store.config.created + 10**9
        self.store._core.now = lambda: self.clock

    # -- choosing ---------------------------------------------------------------

    def walk(self):
        """Yield (path, node) of everything below the root, and the root itself."""
        stack = [(b"/", self.table.root), (b"/.kvfs/", self.table.control)]
        while stack:
            path, node = stack.pop()
            yield path, node
            if isinstance(node, Directory):
                stack += [
                    (path + n + b"/", self.table.node(ino)) for n, ino in node.entries.items()
                ]

    def pick(self, data, kind):
        nodes = [node for _, node in sorted(self.walk(), key=lambda item: item[0])]
        nodes = [node for node in nodes if isinstance(node, kind) and node.ino != CONTROL_INO]
        if kind is File:
            nodes += [node for node in self.files._orphans.values() if isinstance(node, File)]
        return (
            data.draw(st.sampled_from(range(len(nodes))).map(nodes.__getitem__)) if nodes else None
        )

    def place(self, data):
        return self.pick(data, Directory).ino, data.draw(name)

    def attempt(self, action):
        try:
            return action()
        except PosixError:
            return None

    # -- rules --------------------------------------------------------------------

    @rule(step=st.sampled_from([1, 4_000_000]))
    def tick(self, step):
        self.clock += step

    @rule(data=st.data(), owner=owner, keep_back=st.booleans())
    def create(self, data, owner, keep_back):
        place = self.place(data)
        node = self.attempt(lambda: self.files.create(*place, owner, keep_back=keep_back))
        if node:
            self.contents[node.ino] = b""

    @rule(
        data=st.data(), offset=st.sampled_from([0, 3, 700, 6000]), size=st.sampled_from([1, 5, 900])
    )
    def write(self, data, offset, size):
        node = self.pick(data, File)
        if node:
            new = bytes([self.clock % 251]) * size
            self.files.content.write(node, offset, new)
            old = self.contents[node.ino].ljust(offset, b"\0")
            self.contents[node.ino] = old[:offset] + new + old[offset + size :]

    @rule(data=st.data(), size=st.sampled_from([0, 0, 2, 800, 9000]))
    def truncate(self, data, size):
        node = self.pick(data, File)
        if node:
            self.files.content.truncate(node, size)
            self.contents[node.ino] = self.contents[node.ino][:size].ljust(size, b"\0")

    @rule(data=st.data())
    def commit(self, data):
        node = self.pick(data, File)
        if node:
            self.files.content.commit(node)

    @rule(data=st.data())
    def open_or_close(self, data):
        node = self.pick(data, File)
        if node and node.ino in self.open:
            self.open.remove(node.ino)
            self.files.closed(node.ino)
        elif node and node.nlink:
            self.open.add(node.ino)
            self.files.opened(node.ino)

    @rule(data=st.data())
    def unlink(self, data):
        parent, name = self.place(data)
        node = self.files.lookup(parent, name)
        pending = self.files.content.pending(node) if isinstance(node, File) else None
        if pending and pending.created and node.nlink == 1:
            self.untimed.add(parent)  # by promise P5 the log knows nothing of this
        self.attempt(lambda: self.files.unlink(parent, name))

    @rule(data=st.data(), owner=owner)
    def mkdir(self, data, owner):
        place = self.place(data)
        self.attempt(lambda: self.files.mkdir(*place, owner))

    @rule(data=st.data())
    def rmdir(self, data):
        place = self.place(data)
        self.attempt(lambda: self.files.rmdir(*place))

    @rule(data=st.data(), owner=owner, special=st.booleans())
    def make_other(self, data, owner, special):
        place = self.place(data)
        if special:
            self.attempt(lambda: self.files.mknod(*place, owner, stat.S_IFIFO, 0))
        else:
            self.attempt(lambda: self.files.symlink(*place, b"to", owner))

    @rule(data=st.data())
    def link(self, data):
        node, place = self.pick(data, File), self.place(data)
        if node:
            self.attempt(lambda: self.files.link(node, *place))

    @rule(data=st.data(), flags=st.sampled_from([0, 0, 1, 2]))
    def rename(self, data, flags):
        old, new = self.place(data), self.place(data)
        self.attempt(lambda: self.files.rename(old, new, flags))

    @rule(data=st.data(), kind=st.sampled_from([File, Directory, object]), attrs=some_attrs)
    def setattr(self, data, kind, attrs):
        node = self.pick(data, kind)
        if node:
            self.attempt(lambda: self.files.setattr(node, attrs))

    @rule(data=st.data(), name=st.sampled_from([b"user.a", b"user.b"]), remove=st.booleans())
    def xattr(self, data, name, remove):
        node = self.pick(data, object)
        if remove:
            self.attempt(lambda: self.files.removexattr(node, name))
        else:
            self.attempt(lambda: self.files.setxattr(node, name, b"v%d" % (self.clock % 9)))

    @rule(key=path_key, size=st.sampled_from([0, 3, 1000]))
    def put(self, key, size):
        try:
            self.store.put(key, b"k" * size)
        except kvfs.NotAValueError:
            return
        self.contents[self.table.find(key).ino] = b"k" * size

    @rule(key=path_key)
    def delete(self, key):
        node = self.table.find(key)
        pending = self.files.content.pending(node) if isinstance(node, File) else None
        if pending and pending.created:
            self.untimed.add(node.parent)
        self.store.delete(key)

    @rule(old=path_key, new=path_key)
    def move(self, old, new):
        try:
            self.store.rename(old, new)
        except kvfs.NotAValueError:
            return

    @precondition(lambda self: not self.files._orphans)
    @rule(clean=st.booleans())
    def reopen(self, clean):
        self.check(clean=clean)

    # -- checking ------------------------------------------------------------------

    def snapshot(self):
        found = {}
        for path, node in self.walk():
            shown = self.files.stat(node)
            if not self.times or node.ino in (CONTROL_INO, KEYS_INO):
                shown = shown._replace(atime=0, mtime=0, ctime=0)
            if node.ino >= PIECES:
                shown = None
            elif node.ino in self.untimed and isinstance(node, Directory):
                shown = shown._replace(mtime=0, ctime=0)
            content = getattr(node, "target", None)
            if isinstance(node, File):
                content = self.files.content.value(node)
                assert content == self.contents[node.ino]
            found[path] = (shown, node.xattrs, content, getattr(node, "implicit", None))
        return found

    def check(self, *, clean=True):
        self.files.content.commit_all()
        before = self.snapshot()
        if clean:
            self.store.close()
        else:
            die(self.store)
            self.files.content.close()
        self.start()
        assert self.snapshot() == before
        self.untimed.clear()

    @invariant()
    def count(self):
        assert len(self.store) == sum(1 for _ in self.table.valued())

    def teardown(self):
        try:
            self.check()
        finally:
            self.store.close()
            self.directory.cleanup()


class TextFilesMachine(FilesMachine):
    form = "text"
    size = 65_536
    times = False


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(FilesMachine, 150), (TextFilesMachine, 60)],
)
def test_state(machine, examples):
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )
