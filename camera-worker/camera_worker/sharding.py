"""Which worker of several watches which camera, without their talking to one another."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

MOST_WORKERS = 1000


@dataclass(frozen=True)
class Shard:
    """One worker's share of the cameras: worker `index`, from 1, of `count`.

    Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every worker
    has a weight for every camera, a hash of both names, and the heaviest one owns the camera. One more worker takes its
    share evenly from the others, and no other camera moves.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count <= MOST_WORKERS:
            raise ValueError(f"{self} is no shard: write i/n with i from 1 to n, and n at most {MOST_WORKERS}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that ``1/3`` names; ValueError with a plain sentence for anything else."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if match is None:
            raise ValueError(f"{text[:40]!r} is no shard: write i/n with i from 1 to n, such as 1/3")
        return cls(int(match[1]), int(match[2]))

    def owns(self, name: str) -> bool:
        """Whether this worker watches the camera `name`: true for exactly one of the `count` workers."""
        return max(range(1, self.count + 1), key=lambda worker: _weight(worker, name)) == self.index


def _weight(worker: int, name: str) -> bytes:
    return hashlib.sha256(f"{worker}\0{name}".encode()).digest()
