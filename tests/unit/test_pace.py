"""How the session waits: threads that are really bound, looked at through the system."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from kvfs.fuse import handover, pace
from kvfs.fuse.handover import BOUND, Handover
from kvfs.fuse.session import Header

PATIENCE = 20.0
ALL = os.sched_getaffinity(0)
SMALL = Header(48, 1, 2, 1, 0, 0, os.getpid(), 0, 0)
LARGE = SMALL._replace(length=1 << 20)


def until(condition, step=0.005):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        select.select([], [], [], step)


SLEEPY = 5 * handover._INTERVAL


def is_usual(thread=0):
    return os.sched_getscheduler(thread) == os.SCHED_OTHER and os.sched_getaffinity(thread) == ALL


@contextmanager
def sharing(monkeypatch, interval):
    assert len(ALL) > 1, "this needs two CPUs"
    monkeypatch.setattr(handover, "_crowd", lambda: 1)
    monkeypatch.setattr(handover, "_INTERVAL", interval)
    made = Handover()
    try:
        made.share(os.getpid())
        yield made
    finally:
        made.close()
        handover._let_go(0, ALL)


@pytest.fixture
def bound(monkeypatch):
    """Return what has bound this thread to a CPU, with a process that does not look."""
    with sharing(monkeypatch, 1000.0) as made:
        assert made.state[0] == BOUND
        yield made


@pytest.fixture
def watched(monkeypatch):
    """Return what has bound this thread to a CPU, until it sleeps, or starves."""
    with sharing(monkeypatch, handover._INTERVAL) as made:
        yield made


def test_a_thread_is_bound_to_the_cpu_of_its_client(bound):
    assert os.sched_getscheduler(0) == os.SCHED_IDLE
    assert len(os.sched_getaffinity(0)) == 1


def test_one_that_sleeps_is_let_go(watched):
    until(lambda: watched.state[0] != BOUND, SLEEPY)
    until(is_usual)


def test_one_that_starves_is_let_go_and_waits_longer_each_time(monkeypatch):
    # However long the hog takes to come, that this thread sleeps meanwhile is no reason.
    monkeypatch.setattr(handover, "_QUIET", 10**9)
    with sharing(monkeypatch, handover._INTERVAL) as watched:
        starve(watched)


def starve(watched):
    if watched.state[0] == BOUND:
        (cpu,) = os.sched_getaffinity(0)
        busy = f"""
import os
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
os.sched_setaffinity(0, {{{cpu}}})
while True: pass
"""
        hog = subprocess.Popen([sys.executable, "-c", busy])
        try:
            until(lambda: watched.state[0] != BOUND, 0)  # it wants to run all the time
        finally:
            hog.kill()
            hog.wait()
    assert watched.state[0] == handover._STARVED
    until(is_usual)
    before = watched._penalty
    watched.share(os.getpid())
    assert watched.state[0] != BOUND
    assert watched._penalty == 2 * before


def test_what_did_not_last_is_not_tried_again_soon(bound, monkeypatch):
    monkeypatch.setattr(handover, "_SHORT", 60.0)
    bound.release()
    bound.share(os.getpid())
    assert bound.state[0] != BOUND
    bound._not_before = 0.0
    bound.share(os.getpid())
    assert bound.state[0] == BOUND
    assert bound._penalty == 2 * handover._PENALTY
    bound._since = -60.0
    bound.release()
    bound.share(os.getpid())
    assert bound.state[0] == BOUND, "it lasted"
    assert bound._penalty == handover._PENALTY


def test_it_can_let_go_by_itself(bound):
    bound.release()
    assert bound.state[0] != BOUND
    assert is_usual()


def test_without_the_one_that_looks_after_it_a_thread_is_not_bound(bound):
    os.kill(bound._pid, signal.SIGKILL)
    until(lambda: not bound._is_looked_after())
    bound.share(os.getpid())
    assert bound.state[0] != BOUND
    assert is_usual()


def test_signals_for_all_end_only_the_one_that_serves(watched):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watched._pid, number)
    watched.share(os.getpid())
    until(lambda: watched.state[0] != BOUND, SLEEPY)
    assert watched._is_looked_after()


def test_the_process_ends_with_the_one_it_serves():
    code = """
import os
from kvfs.fuse.handover import Handover
made = Handover()
print(made._pid, flush=True)
os.read(0, 1)
os.kill(os.getpid(), 9)
"""
    served = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    beside = os.pidfd_open(int(served.stdout.readline()))
    assert not select.select([beside], [], [], 0)[0]
    served.communicate(b"x")
    assert select.select([beside], [], [], PATIENCE)[0]
    os.close(beside)


def test_it_holds_nothing_of_what_it_serves():
    reading, writing = os.pipe()
    made = Handover()
    try:
        os.close(writing)
        assert select.select([reading], [], [], PATIENCE)[0], "somebody has the other end still"
    finally:
        made.close()
        os.close(reading)


def test_who_may_not_come_back_is_never_bound():
    code = """
import os, select
from kvfs.fuse import handover
os.setgroups([]); os.setgid(65534); os.setuid(65534)
handover._crowd = lambda: 1
made = handover.Handover()
while made._is_looked_after():
    select.select([], [], [], 0.005)
made.share(os.getpid())
print(os.sched_getscheduler(0), made.state[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [str(os.SCHED_OTHER), "0"]


class Asked:
    """Stands for a handover, and keeps what it was asked."""

    def __init__(self):
        self.state = bytearray(1)
        self.asked = []

    def share(self, client):
        self.asked.append(client)
        self.state[0] = BOUND

    def release(self):
        self.asked.append("release")
        self.state[0] = 0


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_quick_requests_bind_and_large_ones_let_go(pipe, monkeypatch):
    clock = iter(range(10**9))
    monkeypatch.setattr(pace, "_now", lambda: next(clock) * 1e-5)
    os.write(pipe[1], b"there is a request")
    asked = Asked()
    poll = pace.BusyPoll(pipe[0], asked)
    for _ in range(pace._MANY):
        assert asked.asked == []
        poll.wait(SMALL)
    assert asked.asked == [SMALL.pid]
    for _ in range(pace._MANY):
        poll.wait(SMALL)
    assert asked.asked == [SMALL.pid] * 2, "it follows its client"
    poll.wait(LARGE)
    assert asked.asked[2:] == ["release"]


def test_slow_requests_neither_bind_nor_spin(pipe, monkeypatch):
    clock = iter(range(1, 10**9))
    monkeypatch.setattr(pace, "_now", lambda: float(next(clock)))
    asked = Asked()
    poll = pace.BusyPoll(pipe[0], asked)
    poll._poll = lambda _timeout: pytest.fail("it looks for a request")
    for _ in range(3 * pace._MANY):
        poll.wait(SMALL)
    assert set(asked.asked) == {"release"}


def test_a_slow_request_among_quick_ones_lets_nothing_go(pipe, monkeypatch):
    moment = [100.0]
    monkeypatch.setattr(pace, "_now", lambda: moment[0])
    os.write(pipe[1], b"there is a request")
    asked = Asked()
    poll = pace.BusyPoll(pipe[0], asked)

    def send(count, after):
        for _ in range(count):
            moment[0] += after
            poll.wait(SMALL)

    send(1, 1.0)
    for _ in range(10):
        send(pace._MANY, 1e-5)
        send(pace._PATIENCE, 1.0)
    assert "release" not in asked.asked
    assert asked.asked == [SMALL.pid] * 10
    send(pace._PATIENCE + 1, 1.0)
    assert asked.asked[-1] == "release"


def test_the_spin_ends_when_there_is_a_request_and_when_it_takes_too_long(pipe):
    poll = pace.BusyPoll(pipe[0], None)
    poll._answered = time.perf_counter()
    poll.wait(SMALL)  # nothing comes: it returns all the same
    late = threading.Timer(0.0, os.write, (pipe[1], b"x"))
    late.start()
    poll._answered = time.perf_counter()
    poll.wait(SMALL)
    late.join()


@pytest.mark.parametrize(("busy", "cpus"), [(False, ALL), (True, {min(ALL)})])
def test_told_not_to_or_with_one_cpu_it_sleeps(pipe, busy, cpus):
    os.sched_setaffinity(0, cpus)
    try:
        with pace.prepare(busy=busy) as pacing:
            assert isinstance(pacing.at(pipe[0]), pace.Sleep)
    finally:
        os.sched_setaffinity(0, ALL)


def test_with_two_cpus_it_looks_for_requests(pipe):
    with pace.prepare(busy=True) as pacing:
        assert isinstance(pacing.at(pipe[0]), pace.BusyPoll)
