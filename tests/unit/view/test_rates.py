"""The ring of an hour: steps, bounds, and totals that begin anew."""

from relay.buffer.values import Arrival
from relay.model.counters import Counters
from relay.model.records import Signal
from relay.view.rates import MOST_SENDERS, SLOTS, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def arrival(service: str, items: int = 1, agent: str = "sdk/1") -> Arrival:
    return Arrival(1, Signal.TRACES, 5, "127.0.0.1", agent, (service,), items, b"")


def test_items_of_a_sender_stand_in_the_step_in_which_they_came() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.arrived([arrival("shop", 3), arrival("shop", 4)])
    clock.now += 20
    rates.arrived([arrival("shop", 5)])

    (sender,) = rates.document()["senders"]
    assert sender["items"] == [7, 0, 5]
    assert sender["signals"] == {"traces": 12}


def test_what_is_an_hour_old_is_forgotten() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.arrived([arrival("shop", 3)])
    clock.now += 10 * (SLOTS - 1)
    assert sum(rates.document()["senders"][0]["items"]) == 3
    clock.now += 10

    (sender,) = rates.document()["senders"]
    assert len(sender["items"]) == SLOTS
    assert sum(sender["items"]) == 0


def test_senders_are_bounded_and_the_rest_is_counted() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates.arrived([arrival(f"service {at}") for at in range(MOST_SENDERS + 5)])

    found = rates.document()
    assert len(found["senders"]) == MOST_SENDERS
    assert sum(found["others"]) == 5

    clock.now += 10 * SLOTS  # those that are silent make room
    rates.arrived([arrival("new")])
    assert [each["service"] for each in rates.document()["senders"]] == ["new"]


def test_rate_is_what_a_total_has_grown_by() -> None:
    clock, counters = Clock(), Counters()
    rates = Rates(clock)
    counters.kept_items[Signal.LOGS] = 5
    rates.counted(counters)
    clock.now += 10
    counters.kept_items[Signal.LOGS] = 7
    counters.reject(Signal.LOGS, {"trace_id_zero": 2})
    rates.counted(counters)

    found = rates.document()
    assert found["kept"]["logs"] == [5, 2]
    assert found["rejected"] == [{"signal": "logs", "reason": "trace_id_zero", "items": [0, 2]}]
