"""Decisions on a real server, through the ways that reviewers take."""

import pytest

from tumorflow.review.audit import find_faults, from_json

pytestmark = pytest.mark.timeout(300)


def test_a_reviewer_approves_by_a_tag_and_the_audit_says_so(registry):
    version = registry.register("by-tag")
    answer = registry.approve("rita", version, "recall of malignant is .84")
    assert answer.status_code == 200, answer.text
    assert registry.champion("by-tag") == "1"
    tags = registry.tags(version)
    assert (tags["review.status"], tags["review.by"], tags["review.why"]) == (
        "champion", "rita", "recall of malignant is .84",
    )  # fmt: skip
    registered, approved = registry.audit("by-tag")
    assert (registered["action"], registered["actor"]) == ("registered", "pipeline")
    assert (approved["action"], approved["actor"], approved["version"]) == ("approved", "rita", "1")
    assert (approved["previous_champion"], approved["champion"]) == ("", "1")
    assert approved["evidence_hash"] == registered["evidence_hash"] == tags["tumorflow.evidence_hash"]
    assert find_faults([from_json(entry) for entry in registry.audit()]) == []
