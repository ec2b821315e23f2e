import errno

import pytest

import kvfs
from kvfs.checkpoint.format import dump_state, load_state
from kvfs.errors import ConfigError, KvfsError, NoSpaceError, PosixError
from kvfs.records import Setxattr
from kvfs.store.files import Owner
from kvfs.table.lifetimes import EXPIRES, Expiries, dump_expiry, parse_expiry

SECOND = 1_000_000_000
START = 1_900_000_000 * SECOND


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when told; the store's own, of records, is left alone."""

    class Clock:
        now = START

        def on(self, seconds):
            self.now += int(seconds * SECOND)

    it = Clock()
    for module in ("kv", "files", "reserved"):
        monkeypatch.setattr(f"kvfs.store.{module}.time.time_ns", lambda: it.now)
    return it


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


def test_a_key_is_gone_when_its_time_is_over(store, clock):
    store.put("a", "1", ttl=10)
    store.put("b", "2", ttl="1h")
    store.put("c", "3")
    clock.on(9.999)
    assert store.get("a") == b"1"
    clock.on(0.001)
    assert store.get("a") is None
    assert "a" not in store
    assert store.chunks("a") is None
    assert store.look_of("a") is None
    assert store.version("a") is None
    assert list(store) == [b"b", b"c"]
    assert len(store) == 2
    assert not store.delete("a")
    clock.on(3600)
    assert dict(store.items()) == {b"c": b"3"}


def test_what_expired_is_deleted_by_the_next_change(store, clock):
    store.put("a", "1", ttl=1)
    store.put("d/b", "1", ttl=2)
    clock.on(5)
    store.put("c", "3")
    assert store._core.table.find(b"a") is None
    assert store._core.table.find(b"d/b") is None
    assert not store._core.table.expiries


def test_a_key_that_expired_is_new_when_it_is_put_again(store, clock):
    store.put("a", "1", ttl=1)
    clock.on(2)
    store.put("a", "2")
    clock.on(1000)
    assert store.get("a") == b"2"
    store.put("b", "1", ttl=1)
    clock.on(2)
    store.put("b", "2", if_version=None)
    assert store.get("b") == b"2"
    store.put("c", "1", ttl=1)
    clock.on(2)
    assert not store.rename("c", "d")


def test_a_lifetime_stays_when_the_value_is_replaced_and_can_be_prolonged(store, clock):
    store.put("a", "1", ttl=10)
    clock.on(5)
    store.put("a", "2")
    clock.on(4)
    store.put("a", "3", ttl=10)
    clock.on(9)
    assert store.get("a") == b"3"
    node = store._core.table.find(b"a")
    assert store.files.getxattr(node, b"user.kvfs.ttl") == b"1"
    store.files.removexattr(node, b"user.kvfs.ttl")
    clock.on(1000)
    assert store.get("a") == b"3"


def test_lifetimes_survive_restarts_checkpoints_and_renames(path, form, clock):
    with kvfs.open(path, format=form, checkpoint_every=1) as store:
        for number in range(20):
            store.put(f"k{number}", "1", ttl=10 + number)
        store.rename("k3", "d/renamed")
        store.delete("k4")
        store.put("for ever", "1")
    for _ in range(2):
        with kvfs.open(path, checkpoint_every=1) as store:
            assert len(store) == 20
            store.put("for ever", "2")
    clock.on(13)
    with kvfs.open(path, read_only=True) as store:
        assert b"d/renamed" not in store
        assert len(store) == len(list(store)) == 16
    with kvfs.open(path, checkpoint_every=1) as store:
        assert len(store) == len(list(store)) == 16
        store.put("for ever", "3")
    clock.on(1000)
    with kvfs.open(path) as store:
        assert list(store) == [b"for ever"]


def test_the_past_is_as_it_was(path, clock):
    with kvfs.open(path) as store:
        store.put("a", "1", ttl=1)
        clock.on(5)
        assert "a" not in store
        store.put("b", "2")
    with kvfs.open(path, at=1) as past:
        assert dict(past.items()) == {b"a": b"1"}
        assert len(past) == 1


def test_what_is_brought_back_is_there_to_stay(path, clock):
    with kvfs.open(path) as store:
        store.put("a", "1", ttl=1)
        look = store.look_of("a")
        clock.on(5)
        store.bring_back("a", b"1", look)
        clock.on(500)
        assert store.get("a") == b"1"


def test_only_what_is_due_is_removed_and_so_many_at_once(path, clock):
    with kvfs.open(path) as store:
        for number in range(10):
            store.put(f"k{number}", "1", ttl=number + 1)
        clock.on(5)
        gone = []
        assert store.files.expire(3, lambda _parent, name, _ino: gone.append(name)) == 3
        assert gone == [b"k0", b"k1", b"k2"]
        assert store.files.until_expiry() == 0
        assert store.files.expire(100) == 2
        assert store.files.expire(100) == 0
        assert 0.9 < store.files.until_expiry() < 1.1


def test_a_file_with_two_names_loses_both(path, clock):
    with kvfs.open(path) as store:
        store.put("a", "1", ttl=1)
        store.files.link(store._core.table.find(b"a"), 1, b"b")
        clock.on(2)
        assert dict(store.items()) == {}
        gone = []
        assert store.files.expire(10, lambda _parent, name, _ino: gone.append(name)) == 1
        assert sorted(gone) == [b"a", b"b"]


def test_a_directory_that_only_it_implied_goes_with_it(path, clock):
    with kvfs.open(path) as store:
        store.put("a/b/x", "1", ttl=1)
        store.put("a/y", "1", ttl=2)
        store.put("a", "the value of a stands aside")
        numbers = {store.table.find_directory(key).ino for key in (b"a", b"a/b")}
        gone = []
        clock.on(1)
        store.files.expire(10, lambda *place: gone.append(place))
        assert [name for _, name, _ in gone] == [b"x", b"b"]
        clock.on(1)
        store.files.expire(10, lambda *place: gone.append(place))
        assert [name for _, name, _ in gone] == [b"x", b"b", b"y", b"a"]
        assert numbers < {ino for _, _, ino in gone}
        assert dict(store) == {b"a": b"the value of a stands aside"}
        assert store.files.lookup(1, b"a") is store.table.find(b"a")


def test_who_only_reads_removes_nothing(path, clock):
    with kvfs.open(path) as store:
        store.put("a", "1", ttl=1)
    clock.on(2)
    with kvfs.open(path, read_only=True) as reader:
        assert reader.files.expire(10) == 0
        reader.check_healthy()


def test_a_full_disk_is_no_reason_to_stay(path, clock):
    with kvfs.open(path) as store:
        store.update({"d/a": "1", "e/x": "1"})
        store.put("d/b", "1", ttl=1)
        clock.on(2)
        store._core.short = True  # what was set aside is in use
        store._core.find_room = lambda: False
        with pytest.raises(NoSpaceError):
            store.files.create(1, b"c", Owner(0, 0, 0o644), keep_back=False)
        store.files.unlink(store.table.find_directory(b"e").ino, b"x")
        assert list(store.keys("e")) == []
        assert store.files.expire(10) == 1


def test_a_lifetime_that_is_none_is_refused_and_nothing_is_put(store):
    for wrong in (0, -1, "soon", "", float("nan"), float("inf"), 1e30, "1 fortnight"):
        with pytest.raises(ConfigError, match="is no lifetime"):
            store.put("a", "1", ttl=wrong)
    assert len(store) == 0
    node = store.files.create(1, b"f", Owner(0, 0, 0o644))
    for name, value in ((b"ttl", b"soon"), (b"expires", b"tomorrow"), (b"expires", b"-1")):
        with pytest.raises(KvfsError) as refused:
            store.files.setxattr(node, b"user.kvfs." + name, value)
        assert refused.value.errno == errno.EINVAL
    store.files.setxattr(node, b"user.kvfs.expires", b"4000000000.25")
    assert store.files.getxattr(node, b"user.kvfs.expires") == b"4000000000.25"


def test_times_as_they_are_kept():
    for time in (0, 1, SECOND, START, START + 1, START + SECOND // 2):
        assert parse_expiry(dump_expiry(time)) == time
    assert parse_expiry(b"12.5") == 12_500_000_000
    for wrong in (b"", b"1.", b".5", b"-1", b"1e3", b"12345678901", b"1.0123456789", b" 1"):
        assert parse_expiry(wrong) is None
    assert parse_expiry(b"9223372036.854775807") == 2**63 - 1
    assert parse_expiry(b"9223372036.854775808") is None


def test_what_expires_first_comes_first():
    expiries = Expiries([(1, 30), (2, 10)])
    expiries.set(3, 20)
    expiries.set(2, 25)  # later than before
    assert expiries.first_expired(19) is None
    assert expiries.first_expired(20) == 3
    expiries.set(3, None)
    assert expiries.first_expired(24) is None
    assert expiries.first_expired(100) == 2
    assert expiries.expired(26) == 1
    assert expiries.all() == ((1, 30), (2, 25))


def test_what_is_prolonged_again_and_again_takes_no_more_room():
    expiries = Expiries([])
    for time in range(10_000):
        expiries.set(1, START + time)
    assert len(expiries._heap) < 100
    assert expiries.first_expired(START + 9_998) is None
    assert expiries.first_expired(START + 9_999) == 1


def test_a_time_that_no_checkpoint_can_hold_is_none(path):
    with kvfs.open(path) as store:
        store.put("a", "1")
        # As another version may have let through.
        store._core.commit(Setxattr(b"a", EXPIRES, b"9999999999", time=store._core.now()))
        with pytest.raises(PosixError, match="Invalid argument"):
            store.files.setxattr(store.table.find(b"a"), EXPIRES, b"9223372037")
        assert store.compact() is None
    with kvfs.open(path) as store:
        assert store["a"] == b"1"


def test_a_checkpoint_keeps_them(path):
    with kvfs.open(path) as store:
        store.put("a", "1", ttl=1000)
        store.put("b", "1", ttl=1000)
        store._core._make_checkpoint(store._core.log.end)
        state = store._core.table.state()
        assert len(state.expiries) == 2
    with kvfs.open(path) as store:
        checkpoint = store._core._checkpoint
        assert checkpoint is not None
        assert checkpoint.state.expiries == state.expiries
        position, loaded, live = load_state(
            dump_state(checkpoint.position, checkpoint.state, checkpoint.live)
        )
        assert (position, loaded, live) == (checkpoint.position, checkpoint.state, checkpoint.live)
