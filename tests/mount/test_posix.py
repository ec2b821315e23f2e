"""Random system calls of several users, on a mount and on a local directory: all must be the same.

After each call its outcome, both trees, all descriptors, and which times changed are compared.
The number of runs, their length and the seeds are for CI; more, with seeds of their own, by hand:
`KVFS_EXAMPLES=500 KVFS_STEPS=100 KVFS_HANG=36000 bash tests/run.sh tests/mount/test_posix.py --timeout 0`
"""

import itertools
import os
import shutil
import stat
from contextlib import ExitStack

import pytest
from agents import Agent, User
from arguments import CALLS, REMOUNT, SHARED, Descriptor, New
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from trees import Comparison, tick

EXAMPLES = os.environ.get("KVFS_EXAMPLES")
STEPS = int(os.environ.get("KVFS_STEPS", "60"))
SETTINGS = settings(
    max_examples=int(EXAMPLES or 8),
    stateful_step_count=STEPS,
    derandomize=EXAMPLES is None,
    # To make a failing run short takes longer than a test of CI may.
    phases=[Phase.generate] if EXAMPLES is None else list(Phase),
    report_multiple_bugs=False,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

BETWEEN_REMOUNTS = 40
"""After so many steps a run may remount."""
USERS = [
    User(0, (0,), 0o022),
    User(0, (0,), 0),
    User(12345, (12345, SHARED), 0o002),
    User(12345, (12345, SHARED), 0o077),
    User(23456, (23456, SHARED), 0o027),
]
SIZES = {"binary": [None, 16 * 1024], "text": [None, 1024 * 1024]}

AGENTS = st.sampled_from([1, 0, 2, 3, 4])
FIRST = [  # what each run begins with: the number of the agent, and its call
    (1, "mkdir", "d1", 0o777),
    (1, "chown", "d1", 0, SHARED),
    (1, "chmod", "d1", 0o2777),
    (2, "mkdir", "d1/d2", 0o777),
    (1, "mkdir", "d2", 0o1777),
    (2, "mknod", "a", stat.S_IFREG | 0o666, 0),
    (1, "chmod", "a", 0o666),
    (1, "setxattr", "a", "user.a", b"1", 0, True),
    (1, "setxattr", "a", "trusted.a", b"2", 0, True),
    (4, "mknod", "d1/b", stat.S_IFREG | 0o4777, 0),
    (1, "mknod", "d2/b", stat.S_IFREG | 0o666, 0),
    (1, "setxattr", "d2/b", "user.b", b"3", 0, True),
    (1, "link", "d1/b", "d1/c", True),
    (4, "symlink", "d1/b", "c"),
]


class Machine(RuleBasedStateMachine):
    """The two worlds, and the agents in them."""

    def __init__(self, tools, directory, form):
        super().__init__()
        self.form = form
        self.numbers = itertools.count()
        self.slots = {number: [] for number in range(len(USERS))}
        self.agents = []
        self.steps = 0  # since the last mount
        self.sound = False  # while something is amiss, or being done
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory)
            self.stores = stack.enter_context(tools.stores_below(directory))
            self.local = directory / "local"
            self.local.mkdir(parents=True)
            stack.callback(self.end_agents)
            self.cleanup = stack.pop_all()

    @initialize(index=st.integers(0, 1))
    def begin(self, index):
        """Make and mount a store, and a few things in it."""
        size = SIZES[self.form][index]
        self.mounted = self.stores.make(self.form, size=size, mount=False)
        self.mount()
        tops = [os.fspath(self.local), os.fspath(self.mounted.path)]
        for top in tops:
            os.chmod(top, 0o777)
            os.utime(top, ns=(0, 0))
        self.comparison = Comparison(tops, keeps_times=self.form == "binary")
        self.cleanup.callback(self.comparison.close)
        self.start_agents()
        for number, call, *args in FIRST:
            assert self.agents[number].do(call, *args) == [("done", None)] * 2, (call, args)
        for number, agent in enumerate(self.agents):
            slot = next(self.numbers)
            assert agent.do("open", slot, "a", os.O_RDWR, 0) == [("done", None)] * 2
            self.slots[number].append(slot)
        self.comparison.check(tick())
        self.sound = True

    def teardown(self):
        with self.cleanup:
            self.end_agents()
            if self.sound:
                self.over_a_remount()

    # -- the worlds --------------------------------------------------------------------

    def mount(self):
        self.mounted.mount("-o", "allow_other,dev,suid")

    def start_agents(self):
        tops = self.local, self.mounted.path
        for user in USERS:
            self.agents.append(Agent(user, tops))

    def end_agents(self):
        while self.agents:
            self.agents.pop().end()
        for slots in self.slots.values():
            slots.clear()

    def over_a_remount(self):
        """Compare both worlds over a remount; nobody may be in them."""
        self.sound = False
        self.mounted.umount()
        self.mount()
        self.steps = 0
        self.comparison.forget_links()
        self.comparison.check(tick(), remounted=True)
        self.sound = True

    def do(self, number, call, *args):
        """Let an agent make a system call in both worlds, and compare everything."""
        self.steps += 1
        self.sound = False
        start = tick()
        agent = self.agents[number]
        local, mount = agent.do(call, *args)
        shown = f"{call}{args!r} of agent {number}, {USERS[number]}"
        assert local == mount, f"{shown}: {local!r} locally, {mount!r} on the mount"
        handles = [[result for _, result in agent.do("inspect")] for agent in self.agents]
        try:
            self.comparison.check(start, call, handles)
        except AssertionError as error:
            raise AssertionError(f"after {shown} -> {local!r}: {error}") from error
        self.sound = True
        return local

    @rule(agent=AGENTS, call=CALLS)
    def call(self, agent, call):
        """Let an agent make a call on descriptors of its own; any may remount after a while."""
        if call == REMOUNT:
            if self.steps >= BETWEEN_REMOUNTS:
                self.end_agents()
                self.over_a_remount()
                self.start_agents()
            return
        slots = self.slots[agent]
        if not slots and any(isinstance(each, Descriptor) for each in call):
            return
        new = next(self.numbers)
        name, *args = [self.resolved(each, slots, new) for each in call]
        outcome, _ = self.do(agent, name, *args)
        if outcome == "done" and New() in call:
            slots.append(new)
        if name == "close":
            slots.remove(args[0])

    @staticmethod
    def resolved(argument, slots, new):
        """Return what a call is made with for an argument that was drawn."""
        if isinstance(argument, Descriptor):
            return slots[argument.index % len(slots)]
        return new if isinstance(argument, New) else argument


@pytest.mark.parametrize("form", ["binary", "text"])
def test_a_mount_is_like_a_local_directory(tools, tmp_path, form):
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: Machine(tools, tmp_path / str(next(numbers)), form), settings=SETTINGS
    )
