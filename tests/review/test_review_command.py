"""`tumorflow review` on a true server: what a reviewer types, and what is answered."""

import pytest

pytestmark = pytest.mark.timeout(300)


def type_in(registry, who: str, *arguments: str) -> tuple[int, str]:
    """Returns the exit code and all that was printed."""
    done = registry.command(who, "review", *arguments)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_decisions_are_made_and_listed(registry):
    for _ in range(2):
        registry.register("typed", tags={"tumorflow.decision": "accepted"})
    assert type_in(registry, "vic", "list", "typed") == (
        0,
        "typed/2: gate accepted; not decided on\ntyped/1: gate accepted; not decided on",
    )
    for who, act, version, told in (
        ("rita", "approve", "1", "typed/1: gate accepted; champion by rita; alias champion"),
        ("rob", "approve", "2", "typed/2: gate accepted; champion by rob; alias champion"),
        ("rita", "rollback", "1", "typed/1: gate accepted; champion by rita; alias champion"),
        ("rob", "reject", "2", "typed/2: gate accepted; rejected by rob"),
    ):
        assert type_in(registry, who, act, "typed", version, "--reason", f"{act} it") == (0, told)
    made = [(entry["action"], entry["actor"], entry["reason"]) for entry in registry.audit("typed")[2:]]
    assert made == [
        ("approved", "rita", "approve it"),
        ("approved", "rob", "approve it"),
        ("rolled_back", "rita", "rollback it"),
        ("rejected", "rob", "reject it"),
    ]


@pytest.mark.parametrize(
    ("who", "arguments", "code", "told"),
    [
        ("rita", ("approve", "nobody", "1", "--reason", "good"), 2, "Received: nobody/1, which is not there"),
        ("rita", ("approve", "untouched", "99", "--reason", "good"), 2, "Received: untouched/99"),
        ("rita", ("approve", "untouched", "one", "--reason", "good"), 2, "Received: untouched/one"),
        ("rita", ("approve", "untouched", "1", "--reason", " "), 1, "'reason_given'"),
        ("rita", ("rollback", "untouched", "1", "--reason", "good"), 1, "'former_champion'"),
        ("ann", ("approve", "untouched", "1", "--reason", "mine"), 1, "'reviewer_decides'"),
        ("rita", ("approve", "untouched", "1"), 2, "--reason"),
        ("rita", ("list", "nobody"), 2, "Received: 'nobody', without any"),
    ],
)
def test_what_cannot_be_decided_is_said(registry, who, arguments, code, told):
    if registry.ask("vic", "GET", "registered-models/get", params={"name": "untouched"}).status_code != 200:
        registry.register("untouched")
    answered = type_in(registry, who, *arguments)
    assert answered[0] == code, answered[1]
    assert told in answered[1]
    assert "Traceback" not in answered[1]
    assert registry.champion("untouched") == ""
