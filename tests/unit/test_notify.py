"""What a service manager is told, on a socket of our own."""

import os
import socket

import pytest

from kvfs.notify import Manager


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """Return the socket of a manager, which the environment names."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0kvfs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield listening


def test_it_is_told_in_one_datagram_of_lines(manager):
    Manager().tell("READY=1", "STATUS=serving a\nREADY=0 at ü\udcff")
    assert manager.recv(4096) == b"READY=1\nSTATUS=serving a READY=0 at \xc3\xbc\xff"
    assert "NOTIFY_SOCKET" not in os.environ


def test_nobody_is_told_where_nobody_listens(tmp_path, monkeypatch):
    for name in ("", str(tmp_path / "none"), "@kvfs-none", "x" * 4000):
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        Manager().tell("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Manager().tell("READY=1")
