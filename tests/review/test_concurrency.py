"""Many at once, and a server that dies in between: one champion, and an audit without a gap."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from servers import Registry, Version, running_registry

from tumorflow.review.audit import champions, find_faults, from_json

pytestmark = pytest.mark.timeout(600)
KILLS = 5
"""On each kind of database."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A server with accounts, on a database of either kind."""
    own = {}
    if request.param == "postgresql":
        own["MLFLOW_BACKEND_STORE_URI"] = request.getfixturevalue("make_postgresql_database")()
    with running_registry(tmp_path_factory.mktemp("registry"), **own) as server:
        yield server


def assert_agreed(registry: Registry, model: str) -> None:
    """The chain is whole, and the registry has the champion that was decided on last."""
    entries = [from_json(entry) for entry in registry.audit()]
    assert find_faults(entries) == []
    assert registry.champion(model) == champions(entries).get(model, "")


def test_fifty_registrations_at_once_are_fifty_versions(registry):
    registry.register("crowded")  # the model and the experiment are there
    with ThreadPoolExecutor(25) as pool:
        made = list(pool.map(lambda _: registry.register("crowded"), range(50)))
    assert sorted(int(version.number) for version in made) == list(range(2, 52))
    registered = [entry["version"] for entry in registry.audit("crowded")]
    assert sorted(map(int, registered)) == list(range(1, 52))
    reviewers = ("rita", "rob")
    with ThreadPoolExecutor(25) as pool:
        answers = list(
            pool.map(lambda pair: registry.approve(reviewers[pair[0] % 2], pair[1]), enumerate(made))
        )
    assert {answer.status_code for answer in answers} == {200}
    approved = [entry for entry in registry.audit("crowded") if entry["action"] == "approved"]
    assert len(approved) == 50
    assert [entry["previous_champion"] for entry in approved[1:]] == [
        entry["champion"] for entry in approved[:-1]
    ]
    assert_agreed(registry, "crowded")
    status = [registry.tags(version).get("review.status") for version in made]
    assert (status.count("champion"), status.count("former champion")) == (1, 49)


def test_two_reviewers_at_once_decide_one_after_the_other(registry):
    first, second = registry.register("contested"), registry.register("contested")
    for round_number in range(10):
        asked = [("rita", first, f"first, {round_number}"), ("rob", second, f"second, {round_number}")]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda one: registry.approve(*one), asked))
        assert {answer.status_code for answer in answers} <= {200, 403}
        assert_agreed(registry, "contested")


def test_a_server_that_is_killed_has_decided_or_not(registry):
    seeded = random.Random(11)
    versions = [registry.register("killed") for _ in range(2)]
    for kill in range(KILLS):
        wanted = versions[kill % 2]
        reason = f"decided before kill {kill}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask_until_the_end, registry, wanted, reason)
            time.sleep(seeded.uniform(0, 0.25))
            registry.kill()
            answered = asked.result()
        registry.start()
        assert_agreed(registry, "killed")
        made = [entry for entry in registry.audit("killed") if entry["reason"] == reason]
        assert len(made) <= 1
        if answered == 200:
            assert len(made) == 1
        if not made:  # the reviewer asks again
            assert registry.approve("rita", wanted, reason).status_code == 200
        assert registry.champion("killed") == wanted.number
        assert registry.approve("rita", wanted, reason).status_code == 200  # a retry of the client's
        made = [entry for entry in registry.audit("killed") if entry["reason"] == reason]
        assert len(made) == 1


def ask_until_the_end(registry: Registry, version: Version, reason: str) -> int:
    """Returns the status of the answer; 0: the server died first."""
    try:
        return registry.approve("rita", version, reason).status_code
    except requests.RequestException:
        return 0
