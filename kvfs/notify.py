"""Telling a service manager how a service is: the protocol of sd_notify(3).

A datagram of lines such as `READY=1` to the socket that the manager names in the
environment; without one, nobody is told.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Manager:
    """The service manager that started this process, if one did."""

    def __init__(self) -> None:
        """Find its socket, and keep its name from the processes that this one starts."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(self, *lines: str) -> None:
        """Send `lines`; a manager that does not listen is none."""
        if not self._address:
            return
        # A name that starts with @ is in the abstract namespace, where it starts with a NUL.
        address = os.fsencode(self._address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]
        text = "\n".join(" ".join(line.split()) for line in lines)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.send(os.fsencode(text))
