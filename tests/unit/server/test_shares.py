"""Whose connection goes when there is one too many."""

from typing import NamedTuple

from relay.server.shares import Shares


class Connection(NamedTuple):
    peer: str
    dispensable: tuple[int, float] | None
    name: str = ""


def shares_of(connections: list[Connection]) -> Shares:
    shares = Shares()
    for connection in connections:
        shares.add(connection.peer)
    return shares


def test_newcomer_goes_where_nobody_has_more_than_it() -> None:
    newcomer = Connection("a", (0, 9.0), "new")
    for others in ([Connection("a", (0, 1.0))] * 3, [Connection(each, (0, 1.0)) for each in "bcd"]):
        connections = [*others, newcomer]

        assert shares_of(connections).to_close(newcomer, connections) is newcomer


def test_idle_one_of_who_has_most_goes_the_longest_idle_first() -> None:
    newcomer = Connection("b", (0, 9.0), "new")
    oldest = Connection("a", (0, 1.0), "oldest")
    connections = [
        Connection("c", (0, 0.0)),
        Connection("a", (1, 0.0), "reads headers"),
        Connection("a", (0, 2.0)),
        oldest,
        Connection("a", None, "owed an answer"),
        newcomer,
    ]

    assert shares_of(connections).to_close(newcomer, connections) is oldest


def test_newcomer_goes_where_all_the_others_are_owed_an_answer() -> None:
    newcomer = Connection("b", (0, 9.0))
    connections = [*[Connection("a", None)] * 3, newcomer]

    assert shares_of(connections).to_close(newcomer, connections) is newcomer
