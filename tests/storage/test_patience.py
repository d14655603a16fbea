import pytest

from tumorflow.errors import ParameterError, SourceError, UnavailableError
from tumorflow.storage.patience import patience_s, persist


class Clock:
    def __init__(self):
        self.now = 0.0
        self.waits = []

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def __call__(self):
        return self.now


def away_until(clock, back_s):
    def action():
        if clock.now < back_s:
            raise UnavailableError("away")
        return "back"

    return action


def test_what_comes_back_in_time_is_had():
    clock = Clock()
    assert persist(away_until(clock, 30), 120, sleep=clock.sleep, clock=clock) == "back"
    assert 30 <= clock.now < 40
    assert max(clock.waits) <= 8


def test_patience_ends():
    clock = Clock()
    with pytest.raises(UnavailableError, match="away"):
        persist(away_until(clock, 1000), 120, sleep=clock.sleep, clock=clock)
    assert clock.now == pytest.approx(120)


def test_what_stays_is_told_at_once():
    clock = Clock()

    def action():
        raise SourceError("no bucket")

    with pytest.raises(SourceError):
        persist(action, 120, sleep=clock.sleep, clock=clock)
    assert clock.waits == []


def test_patience_is_two_minutes_or_what_is_said(monkeypatch):
    monkeypatch.delenv("TUMORFLOW_STORE_PATIENCE_S", raising=False)
    assert patience_s() == 120
    monkeypatch.setenv("TUMORFLOW_STORE_PATIENCE_S", "0.5")
    assert patience_s() == 0.5
    for wrong in ("", "soon", "-1", "inf"):
        monkeypatch.setenv("TUMORFLOW_STORE_PATIENCE_S", wrong)
        with pytest.raises(ParameterError, match="number of seconds"):
            patience_s()
