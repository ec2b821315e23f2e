"""Figures as Prometheus metrics, and where they are served."""

import errno
import resource
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack, closing, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

import kvfs
from kvfs.errors import ConfigError, MountError
from kvfs.filesystem.stats import Statistics
from kvfs.fuse import Connection, Counters, Session, protocol
from kvfs.metrics import Address, Exporter


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_addresses(text, address):
    assert Address.parse(text) == address
    assert Address.parse(str(Address.parse(text))) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "0", "65536", "-1", "a", "::1:9100", "[::1]", "[x]:9100", "1:2:3", "\u0661"),
        *("a..b:9100", "a" * 64 + ":9100", "1" * 5000),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ConfigError, match="is no address for metrics"):
        Address.parse(text)


def test_an_address_that_is_taken_is_named():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MountError, match=f"served at 127.0.0.1:{port}: Address already") as why:
            Exporter(Address("127.0.0.1", port))
    assert why.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_figures_of_a_mount_are_served_in_the_format_of_prometheus(tmp_path, host):
    with kvfs.open(tmp_path / 'st"o\\re') as store, closing(Exporter(Address(host, 0))) as exporter:
        counters = Counters(1)
        session = Session(Connection(0, "/mnt\n\udcff"), store.lock, counters=counters)
        for unique in range(3):
            counters.requests[protocol.LOOKUP] += 1
            counters.begin(protocol.LOOKUP, unique)
            counters.end(unique)
        counters.refuse(errno.ENOENT)
        counters.read_bytes = 12
        store.put("a", "1")
        store.sync()
        exporter.start(Statistics(store, session).snapshot)
        shown = f"[{host}]" if ":" in host else host
        with urllib.request.urlopen(f"http://{shown}:{exporter.port}/metrics") as answer:
            page = answer.read().decode()
    families = {family.name: family for family in parsed(page)}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["kvfs_requests_total", "lookup"] == 3
    assert samples["kvfs_request_duration_seconds_count", "lookup"] == 3
    assert samples["kvfs_request_duration_seconds_bucket", "+Inf", "lookup"] == 3
    assert samples["kvfs_request_duration_seconds_sum", "lookup"] > 0
    assert samples["kvfs_errors_total", "ENOENT"] == 1
    assert samples[("kvfs_read_bytes_total",)] == 12
    assert samples[("kvfs_keys",)] == samples[("kvfs_log_appended_records_total",)] == 1
    assert samples[("kvfs_sync_duration_seconds_count",)] >= 1
    assert samples[("kvfs_log_synced_records",)] == 1
    assert samples[("process_open_fds",)] > 0
    about = families["kvfs_mount_info"].samples[0].labels
    assert about["store"] == str(tmp_path / 'st"o\\re')
    assert about["mountpoint"] == "/mnt\n\\udcff"
    types = {name: family.type for name, family in families.items()}
    assert types["kvfs_request_duration_seconds"] == "histogram"
    assert types["kvfs_requests"] == "counter"
    bounds = [
        float(sample.labels["le"])
        for sample in families["kvfs_sync_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert bounds == sorted(bounds)
    assert bounds[:2] == [1e-6, 2e-6]


def page_of(exporter):
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=20) as answer:
        return answer.read()


def test_clients_that_say_nothing_take_few_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr("kvfs.metrics._PATIENCE", 2.0)
    with kvfs.open(tmp_path / "store") as store, closing(Exporter(Address("127.0.0.1", 0))) as made:
        session = Session(Connection(0, "/mnt"), store.lock, counters=Counters(1))
        made.start(Statistics(store, session).snapshot)
        threads = threading.active_count()
        with ExitStack() as clients:
            refused = 0
            for _ in range(40):
                client = socket.create_connection(("127.0.0.1", made.port), 20)
                clients.enter_context(closing(client)).settimeout(0.02)
                with suppress(TimeoutError):
                    refused += client.recv(1) == b""
            assert refused >= 20
            assert threading.active_count() - threads <= 20
        for _ in range(100):
            with suppress(OSError):
                assert b"kvfs_keys" in page_of(made)
                break
            time.sleep(0.1)
        else:
            pytest.fail("nobody was answered again")


def test_without_descriptors_it_waits_until_there_are_some(tmp_path):
    with kvfs.open(tmp_path / "store") as store, closing(Exporter(Address("127.0.0.1", 0))) as made:
        session = Session(Connection(0, "/mnt"), store.lock, counters=Counters(1))
        made.start(Statistics(store, session).snapshot)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as client:
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
            try:
                client.connect(("127.0.0.1", made.port))
                before = time.process_time()
                time.sleep(0.5)
                assert time.process_time() - before < 0.25
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert b"kvfs_keys" in page_of(made)
