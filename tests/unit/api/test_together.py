"""Group commit: writes that come together share a transaction, and a refused one takes only itself back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from almenara.alarms import tables
from almenara.alarms.database import open_database
from almenara_api.together import RefusedError, Together

NAMES = tables.cursors


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'api.db'}")
    yield opened
    opened.dispose()


def write(name: str, refused: bool = False) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        connection.execute(insert(NAMES).values(name=name, value=1))
        if refused:
            raise RefusedError

    return run


def names(engine: Engine) -> set[str]:
    with engine.begin() as connection:
        return set(connection.execute(select(NAMES.c.name)).scalars())


class Crowd:
    """Writes that wait until the one before them is let go, so that they come together."""

    def __init__(self, engine: Engine) -> None:
        self.together = Together(engine)
        self.commits = 0
        event.listen(engine, "commit", self._count)

    def _count(self, _: Connection) -> None:
        self.commits += 1

    def run(self, *writes: Callable[[Connection], None]) -> list[BaseException | None]:
        entered, go = threading.Event(), threading.Event()

        def first(_: Connection) -> None:
            entered.set()
            go.wait(30)

        with ThreadPoolExecutor(len(writes) + 1) as pool:
            leader = pool.submit(self.together.run, first, order=())
            entered.wait(30)
            futures = [pool.submit(self.together.run, each, order=(str(n),)) for n, each in enumerate(writes)]
            while len(self.together._waiting) < len(writes):
                threading.Event().wait(0.005)
            go.set()
            leader.result()
            return [future.exception() for future in futures]


def test_what_comes_together_is_one_transaction(engine: Engine) -> None:
    crowd = Crowd(engine)
    assert crowd.run(*(write(f"name {number}") for number in range(6))) == [None] * 6
    assert crowd.commits == 2, "of the first, and of those that waited for it"
    assert len(names(engine)) == 6


def test_a_refused_write_takes_back_only_itself(engine: Engine) -> None:
    outcomes = Crowd(engine).run(write("a"), write("b", refused=True), write("c"))
    assert [type(each) for each in outcomes] == [type(None), RefusedError, type(None)]
    assert names(engine) == {"a", "c"}


def test_what_cannot_be_kept_fails_alone(engine: Engine) -> None:
    def unwritable(connection: Connection) -> None:
        write("d")(connection)
        raise ValueError("A string literal cannot contain NUL (0x00) characters.")

    outcomes = Crowd(engine).run(write("a"), write("a"), write("b"), unwritable)
    assert [type(each) for each in outcomes] == [type(None), IntegrityError, type(None), ValueError]
    assert names(engine) == {"a", "b"}


def test_a_failure_of_the_database_is_told_to_all_and_nothing_is_written(engine: Engine) -> None:
    def fail(_: Connection) -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    outcomes = Crowd(engine).run(write("a"), fail, write("b"))
    assert [type(each) for each in outcomes] == [OperationalError] * 3
    assert names(engine) == set()


def test_writes_of_a_transaction_come_in_their_order(engine: Engine) -> None:
    seen: list[int] = []
    writes = [lambda _, number=number: seen.append(number) for number in range(5)]
    assert Crowd(engine).run(*writes) == [None] * 5
    assert seen == sorted(seen)
