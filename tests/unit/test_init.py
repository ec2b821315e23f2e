"""Making a store: where one can be, what it is, and what is on the disk by then."""

import errno
import os
import stat

import pytest

import kvfs
from kvfs.disk import Disk


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


def test_init(path):
    config = kvfs.init(path, format="text", max_segment_size=1)
    assert (config.format, config.max_segment_size) == ("text", 1)
    with pytest.raises(kvfs.StoreExistsError, match="is a kvfs store already") as caught:
        kvfs.init(path)
    assert caught.value.errno == errno.EEXIST
    os.mkdir(path + "2")
    kvfs.init(path + "2")


@pytest.mark.parametrize(
    ("form", "size"), [("binary", 511), ("text", 0), ("binary", 2**40 + 1), ("xml", 512)]
)
def test_what_cannot_be_is_refused_before_anything_is_made(path, form, size):
    for make in (kvfs.init, kvfs.open):
        with pytest.raises(kvfs.ConfigError) as caught:
            make(path, format=form, max_segment_size=size)
        assert caught.value.errno == errno.EINVAL
        assert not os.path.exists(path)


def test_no_store_is_made_over_other_files(path):
    os.mkdir(path)
    with open(path + "/notes", "w"):
        pass
    with pytest.raises(kvfs.StoreExistsError, match="not empty"):
        kvfs.init(path)
    with pytest.raises(kvfs.NotAStoreError):
        kvfs.open(path)
    assert os.listdir(path) == ["notes"]


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o700])
@pytest.mark.parametrize("make", [kvfs.init, kvfs.open])
def test_a_store_is_for_its_owner_alone(path, make, mode):
    os.mkdir(path)
    os.chmod(path, mode)
    os.mkdir(path + "/segments", 0o700)
    made = make(path)
    if make is kvfs.open:
        made.close()
    for below in (path, *(f"{path}/{name}" for name in ("segments", "checkpoints", "quarantine"))):
        assert stat.S_IMODE(os.stat(below).st_mode) == 0o700


@pytest.mark.parametrize("directory", ["segments", "quarantine", "checkpoints"])
def test_no_store_is_made_over_what_is_left_of_another(path, directory):
    kvfs.open(path).close()
    file = os.path.join(path, directory, "00000001.seg")
    with open(file, "w") as old:
        old.write("old")
    os.unlink(f"{path}/store.toml")
    before = sorted(os.listdir(path))
    with pytest.raises(kvfs.StoreExistsError, match=r"a kvfs store that has lost its store\.toml"):
        kvfs.init(path)
    with pytest.raises(kvfs.NotAStoreError, match=r"has lost its store\.toml"):
        kvfs.open(path)
    assert sorted(os.listdir(path)) == before
    os.unlink(file)
    kvfs.open(path).close()


def test_no_store_is_made_over_a_link_inside_it(path, tmp_path):
    os.mkdir(path)
    (tmp_path / "empty").mkdir()
    os.symlink(tmp_path / "empty", f"{path}/segments")
    with pytest.raises(kvfs.StoreExistsError):
        kvfs.init(path)


@pytest.mark.parametrize("name", ["link", "link/new", "link/old"])
def test_a_store_may_be_named_by_a_link(tmp_path, name):
    (tmp_path / "top" / "old").mkdir(parents=True)
    if name == "link":
        (tmp_path / "top" / "old").rmdir()
    (tmp_path / "link").symlink_to("top")
    with kvfs.open(tmp_path / name) as store:
        store.put("a", "1")
    with kvfs.open(tmp_path / name, create=False) as store:
        assert store.get("a") == b"1"


def test_the_directory_above_a_store_need_not_be_readable(path, monkeypatch):
    synced = []

    class Above(Disk):
        def sync_directory(self, directory):
            if directory == os.path.dirname(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
            super().sync_directory(directory)

        def sync_all(self):
            synced.append(path)

    kvfs.init(path, disk=Above())
    assert synced == [path]


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_no_store_is_made_where_none_is_wanted(path, options):
    with pytest.raises(kvfs.NotAStoreError) as caught:
        kvfs.open(path, **options)
    assert caught.value.errno == errno.ENOENT
    assert not os.path.exists(path)


@pytest.mark.parametrize("make", [kvfs.init, kvfs.open])
def test_a_file_in_place_of_a_store_is_an_error_of_kvfs(path, make):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(kvfs.KvfsError):
        make(path)
    with open(path) as file:
        assert file.read() == "precious"
