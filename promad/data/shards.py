"""Shards: which of several daemons watches a group.

Rendezvous hashing: each shard has a weight for each group, and the one with the largest weight
watches it. One shard more takes from each of the others what it has the largest weight for, and
nothing else moves. A group's key is 64 bits of BLAKE2b over the values of `shard_by`, and a weight
is the finaliser of SplitMix64 over the key and the shard, so that every machine and every version
of Python agrees.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.config import Config
from promad.errors import ConfigError

Labels = tuple[tuple[str, str], ...]
Keys = NDArray[np.uint64]

DIRECTORY = "shards"
"""Within artifacts_dir, with a directory for each shard."""

_FORM = re.compile(r"(auto|[0-9]{1,6})/([0-9]{1,6})")
_ORDINAL = re.compile(r"-([0-9]{1,6})$")
_MOST_KNOWN = 1_000_000
"""Groups whose shard is remembered: churn must not fill the memory."""


@dataclass(frozen=True)
class Share:
    """One of `count` equal daemons, `number` 0 to `count` - 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_share(text: str, host: str) -> Share:
    """The share that `2/5` or `auto/5` names; `auto` is the number at the end of a host name.

    >>> parse_share("2/5", ""), parse_share("auto/5", "promad-4")
    (Share(number=2, count=5), Share(number=4, count=5))

    Raises:
        ValueError: if it names none: why, and what to write instead.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError("not NUMBER/COUNT — write it like 2/5, or auto/5 in a StatefulSet")
    count = int(found[2])
    if count < 1:
        raise ValueError("there must be at least one shard — write it like 2/5")
    if found[1] != "auto":
        return _check_share(Share(int(found[1]), count), "")
    ordinal = _ORDINAL.search(host.split(".")[0])
    if ordinal is None:
        raise ValueError(
            f"the host name {host!r} does not end in a number such as promad-2 — "
            f"write the number, 0/{count} to {count - 1}/{count}"
        )
    return _check_share(Share(int(ordinal[1]), count), f"host {host}: ")


def _check_share(share: Share, where: str) -> Share:
    if share.number >= share.count:
        raise ValueError(
            f"{where}there is no shard {share.number} of {share.count} — shards are numbered from "
            f"0: 0/{share.count} to {share.count - 1}/{share.count}"
        )
    return share


@dataclass(frozen=True)
class Shard:
    """The groups of one daemon.

    Attributes:
        share: which of the daemons it is.
        by: the labels whose values decide; a label that a group lacks has no value.
    """

    share: Share
    by: tuple[str, ...]
    _known: dict[tuple[str, ...], bool] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(config: Config, share: Share | None) -> Shard | None:
        """The shard of a configuration's detector; None if it has all groups.

        Raises:
            ConfigError: if it has but one group, which no one can share.
        """
        if share is None:
            return None
        if not config.group_by:
            raise ConfigError(
                [
                    f"{config.name}: group_by: empty, but --shard {share} shares groups out — set "
                    "group_by, or run this detector without --shard"
                ]
            )
        return Shard(share, tuple(sorted(config.shard_by or config.group_by)))

    def owns(self, group: Labels) -> bool:
        """Whether the group is one of this shard's."""
        return bool(self.choose([group])[0])

    def choose(self, groups: Sequence[Labels]) -> NDArray[np.bool_]:
        """Which of these groups are this shard's: bool (groups,)."""
        chosen = [_select(group, self.by) for group in groups]
        new = [*dict.fromkeys(key for key in chosen if key not in self._known)]
        if new:
            if len(self._known) + len(new) > _MOST_KNOWN:
                self._known.clear()
                new = [*dict.fromkeys(chosen)]
            owners = assign_keys(hash_values(new), self.share.count)
            self._known.update(zip(new, (owners == self.share.number).tolist(), strict=True))
        return np.fromiter((self._known[key] for key in chosen), np.bool_, len(chosen))

    def locate(self, artifacts: Path) -> Path:
        """The directory with the state and the events of this shard.

        It has the number alone: with one shard more, all that stays is continued in its place.
        """
        return artifacts / DIRECTORY / str(self.share.number)


def list_state_directories(artifacts: Path) -> list[Path]:
    """Where daemons may have saved the state of groups: without shards, and of each shard."""
    shards = sorted(path for path in (artifacts / DIRECTORY).glob("*") if path.is_dir())
    return [artifacts, *shards]


def _select(group: Labels, names: Sequence[str]) -> tuple[str, ...]:
    if tuple(name for name, _ in group) == tuple(names):
        return tuple(value for _, value in group)
    labels = dict(group)
    return tuple(labels.get(name, "") for name in names)


def hash_values(values: Iterable[Sequence[str]]) -> Keys:
    """A key of 64 bits for each tuple of label values: uint64 (groups,)."""
    digests = (hashlib.blake2b(_join(each), digest_size=8).digest() for each in values)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _join(values: Sequence[str]) -> bytes:
    """The values with their lengths: no two tuples have the same bytes."""
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    return b"".join(b"%d:%s" % (len(each), each) for each in encoded)


def assign_keys(keys: Keys, count: int) -> NDArray[np.int64]:
    """The shard of each key, of `count`: int64 (groups,), 0 to `count` - 1."""
    owners = np.zeros(len(keys), np.int64)
    largest = np.zeros(len(keys), np.uint64)
    for shard in range(count):
        weights = _mix(keys ^ _mix(np.array([shard + 1], np.uint64)))
        better = weights > largest
        owners[better], largest[better] = shard, weights[better]
    return owners


def _mix(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014), with its increment."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)
