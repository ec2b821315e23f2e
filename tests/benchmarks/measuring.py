"""A sitting: rounds in which every peer does the same work, one after the other.

Within a round, all peers go through one scenario before any of them comes to the next, so that what
is compared is measured within minutes. The order of the peers moves on by one in each round. A peer
that fails is taken down in the results and the others go on; one that cannot even be started is
left out from then on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alone import LargeStore, idle
from library_peers import PEERS as LIBRARIES
from mount_works import scenarios
from mounts import running
from processes import Failure, run
from scratch import yard
from works import of_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mount_works import Scenario, Step
    from mounts import MountPeer, Place
    from results import Results
    from works import Counts

_LIBRARY = Path(__file__).resolve().with_name("library_works.py")
Peer = TypeVar("Peer")


def rotated(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Return the peers in the order of round `number`."""
    shift = number % max(len(peers), 1)
    return [*peers[shift:], *peers[:shift]]


class Sitting:
    """All that is measured at one time, into one set of results."""

    def __init__(
        self,
        results: Results,
        scratch: Path,
        counts: Counts,
        works: frozenset[str],
        say: Callable[[str], None],
    ) -> None:
        """Take what is to be measured; `say` gets a line on how far it is."""
        self.results = results
        self._scratch = scratch
        self._counts = counts
        self._works = works
        self._say = say
        tools = scratch / "tools"
        tools.mkdir()
        self._tools = tools
        self._scenarios = [s for s in scenarios(counts, tools) if s.works() & works]
        self._large = LargeStore(scratch / "alone", counts.keys)

    def measure(self, mounts: Iterable[MountPeer], libraries: Iterable[str], rounds: int) -> None:
        """Measure all works with all peers, in so many rounds."""
        on_mounts = self._available(mounts) if self._scenarios else []
        to_open = [peer for peer in libraries if not self.results.peers("library")[peer]["missing"]]
        for number in range(rounds):
            start = time.monotonic()
            for scenario in self._scenarios:
                self._scenario(scenario, on_mounts, number)
            self._libraries(to_open, number)
            self._alone(number)
            took = time.monotonic() - start
            self._say(f"round {number + 1} of {rounds} is done, in {took:.0f} s")

    def _available(self, peers: Iterable[MountPeer]) -> list[MountPeer]:
        """Return the peers that can be had; say of each other why not."""
        there = []
        for peer in peers:
            try:
                peer.prepare(self._tools)
                there.append(peer)
            except Failure as failure:
                self._missing("mount", peer.key, str(failure))
        return there

    def _missing(self, kind: str, peer: str, reason: str) -> None:
        self.results.peers(kind)[peer]["missing"] = reason
        self._say(f"{peer} is missing: {reason}")

    def _failed(self, peer: str, what: str, number: int, failure: Failure) -> None:
        self.results.fail(peer, what, number, str(failure))
        self._say(f"{peer} failed in round {number + 1}, {what}: {failure}")

    # -- on mounts -------------------------------------------------------------

    def _scenario(self, scenario: Scenario, peers: list[MountPeer], number: int) -> None:
        keys = [peer.key for peer in peers]
        with yard(self._scratch, f"{scenario.group}-{number}", keys) as backing:
            for peer in rotated(peers, number):
                self._place(scenario, peer, backing[peer.key], number, peers)

    def _place(
        self,
        scenario: Scenario,
        peer: MountPeer,
        backing: Path,
        number: int,
        peers: list[MountPeer],
    ) -> None:
        started = False
        os.sync()  # so that nobody pays for what the peer before has written
        try:
            with running(peer, backing) as place:
                started = True
                for step in scenario.wanted(self._works):
                    self._step(step, place, number)
        except Failure as failure:
            self._failed(peer.key, scenario.group, number, failure)
            if not started:
                peers.remove(peer)
                if number == 0:
                    self.results.peers("mount")[peer.key]["missing"] = str(failure)

    def _step(self, step: Step, place: Place, number: int) -> None:
        try:
            value = step.act(place)
        except Failure as failure:
            raise Failure(f"{step.work or 'preparing'}: {failure}") from None
        if step.work in self._works and value is not None:
            self.results.add(step.work, place.peer.key, number, value)

    # -- libraries, and kvfs alone ---------------------------------------------

    def _libraries(self, peers: list[str], number: int) -> None:
        wanted = self._works & {work.key for work in of_group("library")}
        if not wanted or not peers:
            return
        with yard(self._scratch, f"library-{number}", peers) as backing:
            for peer in rotated(peers, number):
                words = [sys.executable, _LIBRARY, peer, backing[peer] / "store"]
                try:
                    found = json.loads(run([*words, self._counts.pairs]))
                except Failure as failure:
                    self._failed(peer, "library", number, failure)
                    continue
                for work in wanted:
                    self.results.add(work, peer, number, found[work])

    def _alone(self, number: int) -> None:
        if "kvfs" not in self.results.peers("mount"):
            return
        acts = (
            (("replay", "replay-record", "memory-library"), self._large.replay),
            (("look-up",), self._large.look_up),
            (("mount", "memory-mount"), self._large.mount),
            (("idle",), lambda: self._idle(number)),
        )
        for works, act in acts:
            if not self._works.isdisjoint(works):
                try:
                    found = act()
                except Failure as failure:
                    self._failed("kvfs", works[0], number, failure)
                    continue
                for work in self._works.intersection(works):
                    self.results.add(work, "kvfs", number, found[work])

    def _idle(self, number: int) -> dict[str, float]:
        with yard(self._scratch, f"idle-{number}", ["kvfs"]) as backing:
            return idle(backing["kvfs"], self._counts)


def libraries(keys: Iterable[str], say: Callable[[str], None]) -> dict[str, dict]:
    """Return what is known about the library peers; say of each that is missing why."""
    found = {}
    for key in keys:
        peer, missing, version = LIBRARIES[key], None, ""
        try:
            version = peer.version()
        except ImportError as error:
            missing = f"it is not installed: {error}"
            say(f"{key} is missing: {missing}")
        found[key] = {
            "title": key,
            "settings": peer.settings,
            "version": version,
            "missing": missing,
        }
    return found


def room(counts: Counts) -> int:
    """Return the bytes of disk that a sitting needs at most at one time."""
    # JuiceFS keeps data twice, in its storage and in its cache; all peers wait until the yard ends.
    return 8 * counts.stream + 1000 * counts.keys + 2**29
