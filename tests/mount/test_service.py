"""A mount in the foreground as a service: what it tells its manager, and when."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def service(stores):
    """Return a function that starts a mount as a manager would; it has `heard()` then."""
    address = stores.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(20)

        @contextmanager
        def start(made, *options):
            command = [sys.executable, "-m", "kvfs", "mount", "-f", *options, made.store, made.path]
            environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
                process.heard = lambda: listening.recv(4096).decode().split("\n")
                try:
                    yield process
                finally:
                    process.kill()

        yield start


@pytest.mark.parametrize("options", [[], ["-o", "ro"], ["-o", ""]])
@pytest.mark.parametrize("end", [signal.SIGTERM, "umount"])
def test_a_service_says_when_it_is_ready_and_when_it_ends(stores, service, options, end):
    made = stores.make(mount=False)
    made.cli("put", made.store, "a", "1", ok=True)
    with service(made, *options) as process:
        assert process.heard() == [f"STATUS=opening {made.store}"]
        assert process.heard() == ["READY=1", f"STATUS=serving {made.store} at {made.path}"]
        assert (made.path / "a").read_bytes() == b"1"
        if end == "umount":
            made.cli("unmount", made.path, ok=True)
        else:
            process.send_signal(end)
        assert process.heard() == ["STOPPING=1", f"STATUS=closing {made.store}"]
        assert process.wait(20) == 0


def test_a_service_that_cannot_start_says_why(stores, service):
    made = stores.make()
    with service(made) as process:
        process.heard()
        status, number = process.heard()
        assert status == f"STATUS={made.path} has the store {made.store} mounted already"
        assert number == "ERRNO=16"
        assert process.wait(20) == 1


def test_a_killed_service_starts_anew_over_what_it_left(stores, service):
    """As Restart=on-failure does."""
    made = stores.make(mount=False)
    for value in (b"1", b"2"):
        with service(made) as process:
            process.heard()
            assert process.heard()[0] == "READY=1"
            (made.path / "a").write_bytes(value)
            process.kill()
            assert process.wait(20) == -signal.SIGKILL
    made.mount()
    assert (made.path / "a").read_bytes() == b"2"


def test_a_daemon_in_the_background_tells_nobody_in_its_name(stores, service):
    made = stores.make(mount=False)
    address = stores.directory / "notify"
    made.cli(
        "mount", made.store, made.path, ok=True, env={**os.environ, "NOTIFY_SOCKET": str(address)}
    )
    made.daemon = stores.adopt(made.store)
    with service(stores.make(name="other", mount=False)) as process:
        assert "other" in process.heard()[0]


def test_the_unit_calls_what_there_is():
    """Each option of the unit's command line is one of kvfs, and all is read from one file."""
    unit = (ROOT / "systemd" / "kvfs@.service").read_text()
    settings = dict(
        line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#"
    )
    assert settings["Type"] == "notify"
    assert settings["ExecStart"].split() == [
        *("/usr/local/bin/kvfs", "mount", "--foreground", "-o", "${OPTIONS}", "${STORE}"),
        "${MOUNTPOINT}",
    ]
    assert settings["EnvironmentFile"] == "%E/kvfs/%i.conf"
