"""The figures of a mount as Prometheus metrics, served by HTTP in a thread."""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import socket
import socketserver
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import MetricsHandler
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from kvfs.errors import ConfigError, MountError
from kvfs.histogram import BUCKETS, bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from kvfs.figures import Figures

_log = logging.getLogger(__name__)
_PATIENCE = 10.0  # seconds for a request to come
_PAUSE = 0.1  # seconds before the next try where a connection cannot be accepted
_MOST_CLIENTS = 16
"""Clients at a time: the rest of the descriptors is for the mount."""
_MOST_PORT = 65535
_NUMBER = re.compile("[0-9]{1,5}")
_COUNTERS = (
    ("kvfs_read_bytes", "Bytes of files returned to readers.", "data", "read_bytes"),
    ("kvfs_written_bytes", "Bytes of files taken from writers.", "data", "written_bytes"),
    ("kvfs_handovers", "Times that the CPU of a client was shared.", "wait", "handovers"),
    ("kvfs_cache_hits", "Records read from memory.", "cache", "hits"),
    ("kvfs_cache_misses", "Records read from the log.", "cache", "misses"),
    ("kvfs_log_appended_records", "Records appended to the log.", "log", "appended"),
    ("kvfs_log_appended_bytes", "Bytes appended to the log.", "log", "appended_bytes"),
    ("kvfs_checkpoints", "Checkpoints made.", "checkpoints", "made"),
    ("kvfs_compaction_moved_bytes", "Bytes appended anew.", "compaction", "moved_bytes"),
    ("kvfs_segments_removed", "Segments removed.", "compaction", "removed_segments"),
)
_GAUGES = (
    ("kvfs_start_time_seconds", "When the mount began, since 1970.", "mount", "started"),
    ("kvfs_keys", "Keys that have a value.", "store", "keys"),
    ("kvfs_failed", "1 if the store takes no more writes.", "store", "failed"),
    ("kvfs_log_records", "Records of the log since the store began.", "log", "records"),
    ("kvfs_log_synced_records", "Those that survive a power cut.", "log", "synced"),
    ("kvfs_log_segments", "Segments of the log.", "log", "segments"),
    ("kvfs_log_size_bytes", "Bytes of all segments.", "log", "bytes"),
    ("kvfs_log_live_bytes", "About how many of those the values of now take.", "log", "live_bytes"),
    ("kvfs_last_sync_time_seconds", "When the log was last synced, since 1970.", "sync", "last"),
)


class Address(NamedTuple):
    """Where to listen: a host, by its name or number, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that `text` says: `9100`, `:9100`, `127.0.0.1:9100` or `[::1]:9100`.

        A port alone is one of this machine only. Raises `ConfigError`.
        """
        host, _, number = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        good = bool(_NUMBER.fullmatch(number)) and 0 < int(number) <= _MOST_PORT
        if bracketed:
            good = good and _is_ipv6(bare)
        elif bare:
            good = good and _is_name(bare)
        if not good or (":" in bare and not bracketed):
            message = (
                f"{text!r} is no address for metrics; write for example 9100, 127.0.0.1:9100"
                " or [::1]:9100"
            )
            raise ConfigError(message, errno.EINVAL)
        return cls(bare or "127.0.0.1", int(number))

    def __str__(self) -> str:
        """Return the address as `parse` reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ipv6(text: str) -> bool:
    with suppress(ValueError):
        ipaddress.IPv6Address(text)
        return True
    return False


def _is_name(text: str) -> bool:
    """Tell whether `text` may be the name of a host, as far as the resolver takes it at all."""
    with suppress(UnicodeError):
        text.encode("idna")
        return True
    return False


class MountCollector(Collector):
    """Turns the figures that `snapshot` returns into metrics, each time somebody asks."""

    def __init__(self, snapshot: Callable[[], Figures]) -> None:
        """Ask `snapshot`."""
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        figures = self._snapshot()
        mount, store = figures["mount"], figures["store"]
        about = {"version": mount["version"], "mountpoint": mount["mountpoint"]}
        about |= {"store": store["path"], "store_id": store["id"], "format": store["format"]}
        # What is no text would make all of the page unreadable.
        about = {name: _printable(value) for name, value in about.items()}
        yield InfoMetricFamily("kvfs_mount", "What is mounted where.", about)
        for name, text, group, figure in _COUNTERS:
            yield CounterMetricFamily(name, text, figures[group][figure])
        for name, text, group, figure in _GAUGES:
            yield GaugeMetricFamily(name, text, figures[group][figure])
        yield _by_label("kvfs_errors", "Refused requests.", "errno", figures["errors"])
        waits = {how: figures["wait"][how] for how in ("polled", "shared", "slept")}
        yield _by_label("kvfs_waits", "How requests were waited for.", "how", waits)
        requests = figures["requests"]
        counts = {kind: found["count"] for kind, found in requests.items()}
        yield _by_label("kvfs_requests", "Requests, by kind.", "op", counts)
        took = HistogramMetricFamily(
            "kvfs_request_duration_seconds", "From reading a request to its answer.", labels=["op"]
        )
        for kind, found in requests.items():
            if found["buckets"]:
                took.add_metric([kind], **_histogram(found))
        yield took
        yield HistogramMetricFamily(
            "kvfs_sync_duration_seconds",
            "How long syncs of the log took.",
            **_histogram(figures["sync"]),
        )


def _by_label(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(found: dict[str, Any]) -> dict[str, Any]:
    """Return the buckets of a histogram, each with all below, and its sum, as the library wants them."""
    counts = found["buckets"] + [0] * (BUCKETS - len(found["buckets"]))
    below, buckets = 0, []
    for number, count in enumerate(counts):
        below += count
        limit = bound(number)
        buckets.append(("+Inf" if limit == float("inf") else repr(limit), below))
    return {"buckets": buckets, "sum_value": found["seconds"]}


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: Any, handler: Any) -> None:
        self.address_family = family
        self._room = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; where that cannot be, as without descriptors, do not ask at once again."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or not at all where too many are answered."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in the log that somebody could not be answered, who mostly has gone away."""
        _log.debug("a request for metrics failed", exc_info=True)


class Exporter:
    """Serves metrics at an address: bound when it is made, answering from `start` on."""

    def __init__(self, address: Address) -> None:
        """Bind to `address`. Raises `MountError` where that cannot be."""
        self._registry = CollectorRegistry()
        handler = MetricsHandler.factory(self._registry)
        handler.timeout = _PATIENCE  # type: ignore[attr-defined]
        self._thread: threading.Thread | None = None
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
            self._server = _Server(found[0], found[4], handler)
        except OSError as error:
            message = f"metrics cannot be served at {address}: {error.strerror}"
            raise MountError(message, error.errno) from error

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return int(self._server.server_address[1])

    def start(self, snapshot: Callable[[], Figures]) -> None:
        """Answer from now on, with the figures that `snapshot` returns, and those of the process."""
        self._registry.register(MountCollector(snapshot))
        ProcessCollector(registry=self._registry)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="kvfs-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and let go of the address."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
