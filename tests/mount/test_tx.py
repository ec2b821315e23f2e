"""`.kvfs/tx` and `.kvfs/commit`, versions and lifetimes, as shells and programs use them."""

import errno
import os
import random
import subprocess
import sys
import time

import pytest

BEGUN, COMMIT = ".kvfs/tx", ".kvfs/commit"


def code_of(attempt):
    """Return the errno that `attempt` fails with, or 0."""
    try:
        attempt()
    except OSError as error:
        return error.errno
    return 0


@pytest.fixture
def quiet(binary):
    """A mounted binary store whose daemon may log that transactions are refused."""
    binary.quiet = False
    return binary


def test_a_transaction_from_the_shell(binary):
    binary.run("""
        echo 1 > a; mkdir config; echo old > config/port; test ! -e config/host
        mkdir .kvfs/tx/T
        cd .kvfs/tx/T
        test "$(cat a)" = 1
        echo 2 > a; echo 8080 > config/port; echo localhost > config/host
        rm -f nothing; mkdir -p deep/er; mv config/host deep/er/host; ln -s a link; ln a hard
        chmod 600 config/port; dd if=/dev/zero of=big bs=1M count=3 status=none
        find . | sort > ../../../seen; cmp <(sort ../../../seen) ../../../seen
        cd ../../..
        test "$(cat a)" = 1; test "$(cat config/port)" = old; test ! -e config/host; test ! -e big
        mv .kvfs/tx/T .kvfs/commit
        test "$(cat a)" = 2; test "$(cat config/port)" = 8080; test "$(cat deep/er/host)" = localhost
        test "$(stat -c %a config/port)" = 600; test "$(stat -c %s big)" = 3145728
        test a -ef hard; test "$(readlink link)" = a
        test ! -e .kvfs/commit; test -z "$(ls .kvfs/tx)"
        ls -l > /dev/null; test "$(ls | wc -l)" = 7
    """)
    before = binary.run("find . -type f -exec cat {} + | cksum")
    assert binary.remount().run("find . -type f -exec cat {} + | cksum") == before


def test_what_the_kernel_knew_is_seen_anew(binary):
    path, inside = binary.path, binary.path / BEGUN / "T"
    (path / "d").mkdir()
    for name in ("a", "gone", "d/x"):
        (path / name).write_text("old")
    with open(path / "a") as held, open(path / "gone") as lost:
        assert held.read() == lost.read() == "old"
        assert not (path / "new").exists()  # which is remembered
        assert sorted(os.listdir(path)) == ["a", "d", "gone"]
        os.stat(path / "d/x")
        inside.mkdir()
        (inside / "a").write_text("newer")
        (inside / "new").write_text("new")
        (inside / "gone").unlink()
        (inside / "d").rename(inside / "e")
        inside.rename(path / COMMIT)
        assert os.stat(path / "a").st_size == 5
        held.seek(0)
        assert held.read() == "newer"
        lost.seek(0)
        assert lost.read() == "old"  # a file that is unlinked is there for who has it open
    assert (path / "new").read_text() == "new"
    assert (path / "e/x").read_text() == "old"
    assert not (path / "gone").exists()
    assert not (path / "d").exists()
    assert sorted(os.listdir(path)) == ["a", "e", "new"]


def test_who_has_a_file_open_reads_what_was_committed_at_once(binary):
    path, inside = binary.path, binary.path / BEGUN / "T"
    (path / "a").write_text("0000")
    with open(path / "a", "rb") as held:
        for number in range(1, 20):
            assert os.pread(held.fileno(), 9, 0) == b"%04d" % (number - 1)
            inside.mkdir()
            (inside / "a").write_text(f"{number:04}")
            inside.rename(path / COMMIT)
            assert os.pread(held.fileno(), 9, 0) == b"%04d" % number


def test_who_comes_second_is_told_and_may_try_again(quiet):
    path = quiet.path
    (path / "n").write_text("0")
    for name in ("one", "two"):
        (path / BEGUN / name).mkdir()
        (path / BEGUN / name / "n").write_text(name)
    assert sorted(os.listdir(path / BEGUN)) == ["one", "two"]
    os.rename(path / BEGUN / "one", path / COMMIT)
    done = subprocess.run(
        ["mv", path / BEGUN / "two", path / COMMIT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Operation canceled" in done.stderr
    assert (path / "n").read_text() == "one"
    assert "'n' was changed by another" in quiet.log()
    os.rmdir(path / BEGUN / "two")
    (path / BEGUN / "two").mkdir()
    assert (path / BEGUN / "two" / "n").read_text() == "one"


def test_a_transaction_is_taken_back_by_rmdir_or_rm(binary):
    binary.run("""
        echo 1 > a
        mkdir .kvfs/tx/T; echo 2 > .kvfs/tx/T/a; rmdir .kvfs/tx/T
        mkdir .kvfs/tx/T; test "$(cat .kvfs/tx/T/a)" = 1; rm -r .kvfs/tx/T
        test "$(cat a)" = 1; test -z "$(ls .kvfs/tx)"
    """)


def test_a_large_directory(binary):
    binary.run("mkdir d; cd d; seq 3000 | xargs touch")
    inside = binary.path / BEGUN / "T/d"
    for _ in range(2):
        (binary.path / BEGUN / "T").mkdir()
        names = set(os.listdir(inside))
        for name in sorted(names)[::2]:
            (inside / name).unlink()
        for number in range(100):
            (inside / f"new{number}").touch()
        names = set(sorted(names)[1::2]) | {f"new{number}" for number in range(100)}
        assert len(os.listdir(inside)) == len(names)
        assert set(os.listdir(inside)) == names
        assert len(list(os.scandir(inside))) == len(names)
        (binary.path / BEGUN / "T").rename(binary.path / COMMIT)
        assert set(os.listdir(binary.path / "d")) == names


def test_what_cannot_be_done_is_refused(binary):
    path = binary.path
    (path / "a").write_text("1")
    for name in ("T", "U"):
        (path / BEGUN / name).mkdir()
    attempts = [
        (errno.EEXIST, (path / BEGUN / "T").mkdir),
        (errno.EXDEV, lambda: os.rename(path / BEGUN / "T/a", path / "b")),
        (errno.EXDEV, lambda: os.rename(path / BEGUN / "T/a", path / BEGUN / "U/b")),
        (errno.EXDEV, lambda: os.link(path / BEGUN / "T/a", path / "b")),
        (errno.EXDEV, lambda: os.link(path / "a", path / BEGUN / "T/b")),
        (errno.EPERM, lambda: os.rename(path / BEGUN / "T", path / "b")),
        (errno.EPERM, lambda: os.rename(path / BEGUN / "T", path / BEGUN / "V")),
        (errno.EPERM, lambda: os.rename(path / "a", path / COMMIT)),
        (errno.EPERM, lambda: os.mkdir(path / COMMIT)),
        (errno.EROFS, lambda: (path / BEGUN / "file").write_text("1")),
        (errno.ENAMETOOLONG, (path / BEGUN / ("n" * 256)).mkdir),
        (errno.ENOENT, lambda: os.rmdir(path / BEGUN / "V")),
    ]
    for code, attempt in attempts:
        assert code_of(attempt) == code
    assert (path / "a").read_text() == "1"
    with open(path / BEGUN / "T/a", "w") as file:
        file.write("2")
        os.fsync(file.fileno())
    assert (path / "a").read_text() == "1"


def test_a_text_store_has_no_transactions(text):
    text.quiet = False
    assert code_of((text.path / BEGUN / "T").mkdir) == errno.EOPNOTSUPP
    assert os.listdir(text.path / BEGUN) == []


def test_git_works_in_a_transaction(binary):
    binary.run("""
        export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
        mkdir .kvfs/tx/T; cd .kvfs/tx/T
        git init -q repo; cd repo
        for i in 1 2 3; do
            echo $i > file; git add file
            git -c user.name=a -c user.email=a@b commit -qm $i
        done
        cd ../../../..
        mv .kvfs/tx/T .kvfs/commit
        cd repo; test "$(git log --oneline | wc -l)" = 3; git fsck --strict
    """)


WRITER = """
import os, sys
path, ready = sys.argv[1:]
number = 0
while True:
    inside = f"{path}/.kvfs/tx/{os.getpid()}"
    os.mkdir(inside)
    number += 1
    for name in "abcdef":
        with open(f"{inside}/{name}", "w") as file:
            file.write(f"{number} " * 100)
    os.rename(inside, f"{path}/.kvfs/commit")
    with open(ready, "w") as file:
        file.write(str(number))
"""


@pytest.mark.parametrize("seed", range(4))
def test_all_or_nothing_across_kills(stores, tools, seed):
    rng = random.Random(seed)
    mounted = stores.make(size="64KiB")
    ready = stores.directory / "ready"
    last = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, mounted.path, ready], stderr=subprocess.DEVNULL
        )
        try:
            aim = rng.randint(2, 12)
            tools.until(lambda: ready.exists() and int(ready.read_text() or 0) >= aim)  # noqa: B023
        finally:
            mounted.kill()
            writer.kill()
            writer.wait()
        told = int(ready.read_text() or 0)
        ready.unlink()
        mounted.mount()
        values = {(mounted.path / name).read_text() for name in "abcdef"}
        assert len(values) == 1, values
        (value,) = values
        number = int(value.split()[0])
        assert value == f"{number} " * 100
        assert told <= number <= told + 1
        assert os.listdir(mounted.path / BEGUN) == []
        last = max(last, number)
    assert last


def test_many_programs_count_without_losing_one(quiet):
    path = quiet.path
    (path / "n").write_text("0")
    program = """
import errno, os, sys
path, name = sys.argv[1:]
done = 0
while done < 25:
    inside = f"{path}/.kvfs/tx/{name}"
    os.mkdir(inside)
    number = int(open(f"{inside}/n").read())
    with open(f"{inside}/n", "w") as file:
        file.write(str(number + 1))
    try:
        os.rename(inside, f"{path}/.kvfs/commit")
        done += 1
    except OSError as error:
        assert error.errno == errno.ECANCELED, error
        os.rmdir(inside)
"""
    programs = [
        subprocess.Popen([sys.executable, "-c", program, path, str(number)]) for number in range(3)
    ]
    assert [each.wait(60) for each in programs] == [0, 0, 0]
    assert (path / "n").read_text() == "75"


def test_one_who_is_in_a_transaction_that_ends(quiet):
    path = quiet.path
    inside = path / BEGUN / "T"
    inside.mkdir()
    (inside / "a").write_text("1")
    held = os.open(inside / "a", os.O_RDONLY)
    where = os.open(inside, os.O_RDONLY)
    inside.rename(path / COMMIT)
    for attempt in (lambda: os.listdir(where), lambda: os.pread(held, 1, 4096)):
        assert code_of(attempt) in (0, errno.ENOENT, errno.ESTALE)
    os.close(held)
    os.close(where)
    assert (path / "a").read_text() == "1"


def test_the_end_of_the_mount_ends_them(binary):
    (binary.path / BEGUN / "T").mkdir()
    (binary.path / BEGUN / "T/a").write_text("1")
    binary.remount()
    assert os.listdir(binary.path / BEGUN) == []
    assert os.listdir(binary.path) == []


# -- versions -----------------------------------------------------------------------------


def test_a_rename_that_names_a_version(mounted):
    path = mounted.path
    (path / "a").write_text("1")
    seen = os.getxattr(path / "a", "user.kvfs.version")
    (path / ".new").write_text("2")
    os.setxattr(path / ".new", "user.kvfs.if-version", seen)
    (path / "a").write_text("changed")
    assert code_of(lambda: os.rename(path / ".new", path / "a")) == errno.ECANCELED
    assert (path / "a").read_text() == "changed"
    seen = os.getxattr(path / "a", "user.kvfs.version")
    os.setxattr(path / ".new", "user.kvfs.if-version", seen)
    os.rename(path / ".new", path / "a")
    assert (path / "a").read_text() == "2"
    assert os.listxattr(path / "a") == []
    assert code_of(lambda: os.getxattr(path / "a", "user.kvfs.if-version")) == errno.ENODATA


def test_the_commands_that_name_a_version(stores):
    mounted = stores.make()
    for _ in range(2):  # through the mount, and without
        store, cli = mounted.store, mounted.cli
        cli("put", store, "a", "1", "--if-version", "", ok=True)
        cli("put", store, "a", "1", "--if-version", "", fails=1)
        version = cli("version", store, "a", ok=True).stdout.decode().strip()
        cli("put", store, "a", "2", "--if-version", version, ok=True)
        wrong = cli("put", store, "a", "3", "--if-version", version, fails=1)
        assert b"its version is" in wrong.stderr
        cli("delete", store, "a", "--if-version", version, fails=1)
        assert cli("get", store, "a", ok=True).stdout == b"2"
        version = cli("version", store, "a", ok=True).stdout.decode().strip()
        cli("delete", store, "a", "--if-version", version, ok=True)
        cli("version", store, "a", fails=1)
        if mounted.daemon.ended():
            return
        assert os.listdir(mounted.path / BEGUN) == []
        mounted.umount()


# -- lifetimes ----------------------------------------------------------------------------


def test_a_key_goes_by_itself(mounted, tools):
    path = mounted.path
    (path / "d").mkdir()
    (path / "d/a").write_text("1")
    (path / "stays").write_text("1")
    os.setxattr(path / "d/a", "user.kvfs.ttl", b"1")
    assert os.getxattr(path / "d/a", "user.kvfs.ttl") == b"1"
    assert os.listdir(path / "d") == ["a"]
    tools.until(lambda: not (path / "d/a").exists())
    assert os.listdir(path / "d") == []
    assert (path / "stays").exists()
    assert code_of(lambda: os.getxattr(path / "stays", "user.kvfs.ttl")) == errno.ENODATA


def test_what_is_written_to_a_key_that_is_over_stays(mounted):
    path = mounted.path
    for number in range(3):
        name = path / f"k{number}"
        name.write_text("1")
        os.setxattr(name, "user.kvfs.ttl", b"1.%d" % (3 * number + 1))
    for number in range(3):
        name = path / f"k{number}"
        end = float(os.getxattr(name, "user.kvfs.expires"))
        time.sleep(max(end + 0.1 - time.time(), 0))
        name.write_text("new")
    time.sleep(1.2)
    assert [(path / f"k{number}").read_text() for number in range(3)] == ["new"] * 3


def test_a_lifetime_goes_on_while_nothing_is_mounted(stores, tools):
    mounted = stores.make()
    mounted.cli("put", mounted.store, "a", "1", "--ttl", "1", ok=True)
    mounted.cli("put", mounted.store, "b", "1", "--ttl", "1h", ok=True)
    mounted.cli("put", mounted.store, "c", "1", "--ttl", "soon", fails=1)
    mounted.umount()
    tools.until(lambda: mounted.cli("list", mounted.store, ok=True).stdout == b"b\n")
    mounted.mount()
    tools.until(lambda: os.listdir(mounted.path) == ["b"])


def test_a_lock_that_is_let_go_by_itself(mounted, tools):
    """What people use both for: a lock file that does not outlive its holder for long."""
    path = mounted.path

    def take(name):
        try:
            fd = os.open(path / "lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        os.setxattr(fd, "user.kvfs.ttl", b"1")
        os.write(fd, name)
        os.close(fd)
        return True

    assert take(b"one")
    assert not take(b"two")
    tools.until(lambda: take(b"two"))
    assert (path / "lock").read_bytes() == b"two"
