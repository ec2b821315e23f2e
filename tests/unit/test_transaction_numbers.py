"""The numbers of the nodes of transactions: free again once the kernel knows none of them."""

from types import SimpleNamespace

import pytest

import kvfs
from kvfs.errors import PosixError
from kvfs.filesystem.past import views as module
from kvfs.filesystem.past.later import NotYetError
from kvfs.filesystem.past.numbers import TRANSACTIONS, split
from kvfs.filesystem.past.views import Views
from kvfs.filesystem.shown import as_it_is
from kvfs.filesystem.transactions import Transactions
from kvfs.fuse import protocol
from kvfs.fuse.counters import Counters
from kvfs.table import CONTROL_INO

HEADER = SimpleNamespace(nodeid=TRANSACTIONS, unique=1, opcode=protocol.MKDIR)


class Mount:
    """A store whose transactions are asked for as the kernel does."""

    def __init__(self, store):
        nothing = lambda *_: b""  # noqa: E731
        session = SimpleNamespace(
            direct_io=False,
            answer=nothing,
            counters=Counters(),
            forget_attributes=nothing,
            forget_pages_now=nothing,
            forget_name=nothing,
        )
        live = SimpleNamespace(statfs=nothing, show=as_it_is, secure=nothing)
        views = Views(store.path)
        self.transactions = Transactions(store, live, session)
        self.transactions.free_number = views.reserve
        self.transactions.give_back = views.give_back

    def mkdir(self, name):
        """Begin a transaction; return the number of its root."""
        body = memoryview(protocol.MKDIR_IN.pack(0o755, 0) + name + b"\0")
        with pytest.raises(NotYetError) as later:
            self.transactions.mkdir(HEADER, body)
        entry = later.value.then(later.value.work())
        return protocol.ENTRY_OUT.unpack(entry)[0]

    def rename(self, name):
        head = protocol.RENAME_IN.pack(CONTROL_INO)
        with pytest.raises(NotYetError) as later:
            self.transactions.rename(HEADER, memoryview(head + name + b"\0commit\0"))
        assert later.value.then(later.value.work()) == b""

    def rmdir(self, name):
        self.transactions.rmdir(HEADER, memoryview(name + b"\0"))


@pytest.fixture
def mount(tmp_path):
    with kvfs.open(tmp_path / "store") as store:
        made = Mount(store)
        yield made
        made.transactions.close()


def test_there_can_be_any_number_one_after_the_other(mount, monkeypatch):
    monkeypatch.setattr(module, "VIEWS", 4)
    for step in range(12):
        view, _ = split(mount.mkdir(b"T"))
        (mount.rename if step % 2 else mount.rmdir)(b"T")
        mount.transactions.forget(view, 1)  # the reference to the root
    assert not mount.transactions.known


def test_a_number_that_the_kernel_knows_is_given_to_no_other(mount, monkeypatch):
    monkeypatch.setattr(module, "VIEWS", 4)
    views = []
    for name in (b"T", b"U", b"V"):
        views.append(split(mount.mkdir(name))[0])
        mount.rmdir(name)
    with pytest.raises(PosixError, match="Too many open files"):
        mount.mkdir(b"W")
    assert not mount.transactions._store._core.witnesses
    mount.transactions.forget(views[1], 1)
    assert split(mount.mkdir(b"W"))[0] == views[1]
