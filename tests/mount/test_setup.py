"""`mount.sh`: from nothing to a mount in one call, and quickly nothing in a second one."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(tmp_path):
    """Return a function that runs `mount.sh` in `tmp_path`."""

    def run(*args, fails=0, cwd=tmp_path, **environment):
        done = subprocess.run(
            [ROOT / "mount.sh", *args],
            cwd=cwd,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | environment,
        )
        assert done.returncode == fails, done
        return done

    return run


def test_one_call_makes_and_mounts_a_store(call, stores, tmp_path):
    done = call("store", "mnt")
    daemon = stores.adopt(tmp_path / "store")
    assert "made the store store" in done.stderr
    assert "already" not in done.stderr
    assert os.path.ismount(tmp_path / "mnt")
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert len(commands) == 4
    out = shell(commands[:3], tmp_path)
    assert out == "hello\nhello\n"
    before = (tmp_path / "store" / "store.toml").read_bytes()

    again = call("store", "mnt")
    assert "already" in again.stderr
    assert again.stdout == done.stdout
    assert not daemon.ended()
    assert (tmp_path / "store" / "store.toml").read_bytes() == before

    shell(commands[3:], tmp_path)
    assert daemon.ended(20)
    assert not os.path.ismount(tmp_path / "mnt")


def shell(commands, cwd):
    script = "\n".join(["set -e", *commands])
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_a_stale_mount_is_replaced(call, stores, tools, tmp_path):
    call("store", "mnt")
    (tmp_path / "mnt" / "a").write_bytes(b"1")
    daemon = stores.adopt(tmp_path / "store")
    daemon.send(signal.SIGKILL)
    assert daemon.ended(20)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(tmp_path / "mnt")
    done = call("store", "mnt")
    assert "already" not in done.stderr
    assert "made" not in done.stderr
    assert (tmp_path / "mnt" / "a").read_bytes() == b"1"
    assert len(tools.mounts_below(tmp_path)) == 1


def test_it_is_found_from_anywhere_and_takes_odd_names(call, stores, tmp_path):
    (tmp_path / "else where").mkdir()
    call("../a store", str(tmp_path / "m n t" / "deep"), cwd=tmp_path / "else where")
    assert os.path.ismount(tmp_path / "m n t" / "deep")
    assert (tmp_path / "a store" / "store.toml").exists()


def test_setup_installs_nothing_when_all_is_there(call, tmp_path):
    # With no way to reach a package index, an installation would fail.
    before = (ROOT / ".venv" / ".kvfs-installed").stat().st_mtime_ns
    done = call("--setup", PIP_NO_INDEX="1", PIP_INDEX_URL="http://127.0.0.1:9")
    assert (done.stdout, done.stderr) == ("", "")
    assert (ROOT / ".venv" / ".kvfs-installed").stat().st_mtime_ns == before
    assert os.listdir(tmp_path) == []


def test_help_and_wrong_usage(call, tmp_path):
    assert "./mount.sh [STORE] [MOUNTPOINT]" in call("--help").stdout
    for wrong in (["--wrong"], ["a", "b", "c"], ["--setup", "what"]):
        said = call(*wrong, fails=2).stderr
        assert said.startswith("kvfs: "), said
        assert "--help" in said
    assert os.listdir(tmp_path) == []


def test_what_kvfs_refuses_is_said_in_one_line(call, stores, tmp_path):
    (tmp_path / "mnt").mkdir()
    (tmp_path / "mnt" / "file").touch()
    done = call("store", "mnt", fails=1)
    assert "not empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("kvfs: ") for line in done.stderr.splitlines())
    (tmp_path / "plain file").touch()
    done = call("store", "plain file", fails=1)
    assert "not a directory" in done.stderr


def test_packages_that_cannot_be_installed_are_named(tmp_path):
    # Where no package manager is found; tests/run.sh installs its programs in the same way.
    script = f"source {ROOT}/mount.sh; names() {{ echo one two; }}; PATH={tmp_path} install_packages names"
    done = subprocess.run(
        ["bash", "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "kvfs: install these and try again: one two\n"


@pytest.mark.parametrize(
    ("installed", "wanted", "enough"),
    [
        ("", "", True),
        ("[dev]", "", True),
        ("[dev]", "[dev]", True),
        ("[dev,bench]", "[dev]", True),
        ("[dev,bench]", "[bench,dev]", True),
        ("", "[dev]", False),
        ("[docs]", "[dev]", False),
        ("[dev]", "[dev,bench]", False),
        ("[develop]", "[dev]", False),
    ],
)
def test_what_is_installed_with_more_tools_serves_with_fewer(installed, wanted, enough):
    script = f"source {ROOT}/mount.sh; has_extras '{installed}' '{wanted}'"
    assert (subprocess.run(["bash", "-c", script], check=False).returncode == 0) == enough
