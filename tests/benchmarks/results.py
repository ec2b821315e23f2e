"""The raw numbers of a sitting: kept as JSON, asked for medians and ratios.

Ratios are of times, kvfs to the peer, so lower is better, also where a work is shown as a rate. A
ratio is the median of the ratios within each round: both were measured minutes apart then, under
the same load, however much the machine changed from round to round.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from targets import BETTER_PASSTHROUGH, TARGETS, Target
from works import WORKS, Mistake, title

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
_PASSTHROUGH = ("passthrough_ll", "passthrough_ll-writeback")
_PARTS = ("made", "quick", "partial", "rounds", "counts", "machine", "peers", "values", "failures")


class Ratio(NamedTuple):
    """The ratio of two peers: the median over the rounds, the least and the greatest."""

    middle: float
    least: float
    greatest: float


class Verdict(NamedTuple):
    """A target and what was found: a ratio, or a figure by itself."""

    target: Target
    found: Ratio

    @property
    def reached(self) -> bool:
        return self.found.middle <= self.target.at_most

    @property
    def words(self) -> str:
        if self.reached:
            return "reached"
        return f"missed by {self.found.middle / self.target.at_most - 1:.0%}"


class Results:
    """The numbers of a sitting and what is known about it."""

    def __init__(self, about: dict) -> None:
        """Begin with what is known before anything is measured."""
        self.about = {"format": FORMAT, **about}
        self.about.setdefault("values", [])
        self.about.setdefault("failures", [])
        self._found: dict[tuple[str, str], dict[int, float]] = {}
        for entry in self.about["values"]:
            self._note(entry["work"], entry["peer"], entry["round"], float(entry["value"]))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote. Raises `Mistake` if it is something else."""
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["format"] != FORMAT or any(part not in about for part in _PARTS):
                raise KeyError
            about["values"] = [entry for entry in about["values"] if entry["work"] in WORKS]
            return cls(about)
        except OSError as error:
            raise Mistake(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise Mistake(f"{path} holds no results of this benchmark") from None

    def save(self, path: Path) -> None:
        """Write everything as JSON, a value on each line."""
        values = self.about["values"]
        head = json.dumps({**self.about, "values": []}, indent=1, ensure_ascii=False)
        lines = ",\n".join("  " + json.dumps(value) for value in values)
        text = head.replace('"values": []', f'"values": [\n{lines}\n ]')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")

    def add(self, work: str, peer: str, number: int, value: float) -> None:
        """Take a value of round `number`."""
        entry = {"work": work, "peer": peer, "round": number, "value": float(f"{value:.6g}")}
        self.about["values"].append(entry)
        self._note(work, peer, number, value)

    def fail(self, peer: str, what: str, number: int, reason: str) -> None:
        """Take down that a peer did not do something in round `number`."""
        entry = {"peer": peer, "what": what, "round": number, "reason": reason}
        self.about["failures"].append(entry)

    def _note(self, work: str, peer: str, number: int, value: float) -> None:
        self._found.setdefault((work, peer), {})[number] = value

    def peers(self, kind: str) -> dict[str, dict]:
        """Return what is known about the peers of a kind, "mount" or "library"."""
        return self.about["peers"][kind]

    def peer(self, key: str) -> str:
        """Return the title of a peer."""
        for kind in ("mount", "library"):
            if key in self.peers(kind):
                return self.peers(kind)[key]["title"]
        return key

    def title(self, work: str) -> str:
        """Return the title of a work, as it was done here."""
        return title(work, self.about["counts"])

    def median(self, work: str, peer: str) -> float | None:
        values = self._found.get((work, peer))
        return median(values.values()) if values else None

    def has(self, work: str) -> bool:
        """Tell whether anybody did this work."""
        return any(found == work for found, _ in self._found)

    def ratio(self, work: str, against: str) -> Ratio | None:
        """Return the ratio of times of kvfs to a peer, if there is a round with both."""
        if against == BETTER_PASSTHROUGH:
            return self._ratio_to_better(work)
        ours, theirs = self._found.get((work, "kvfs"), {}), self._found.get((work, against), {})
        pairs = [(ours[number], theirs[number]) for number in ours.keys() & theirs.keys()]
        if WORKS[work].is_rate:
            pairs = [(their, our) for our, their in pairs]
        ratios = [our / their for our, their in pairs if their > 0]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    def _ratio_to_better(self, work: str) -> Ratio | None:
        ratios = [ratio for mode in _PASSTHROUGH if (ratio := self.ratio(work, mode))]
        return max(ratios, default=None)

    def verdicts(self) -> list[Verdict]:
        """Return the targets for which there are numbers, and what was found."""
        found = []
        for target in TARGETS:
            if target.against is not None:
                ratio = self.ratio(target.work, target.against)
            else:
                values = self._found.get((target.work, "kvfs"), {}).values()
                ratio = Ratio(median(values), min(values), max(values)) if values else None
            if ratio is not None:
                found.append(Verdict(target, ratio))
        return found
