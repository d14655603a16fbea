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


def test_a_reviewer_approves_by_the_alias_with_a_reason_set_before(registry):
    version = registry.register("by-alias")
    refused = registry.set_alias("rita", version)
    assert refused.status_code == 403
    assert "'reason_given'" in refused.json()["message"]
    assert registry.champion("by-alias") == ""
    assert registry.set_tag("rita", version, "review.reason", "as good as asked").status_code == 200
    answer = registry.set_alias("rita", version)
    assert answer.status_code == 200, answer.text
    assert registry.champion("by-alias") == "1"
    assert registry.audit("by-alias")[-1]["reason"] == "as good as asked"
    assert "review.reason" not in registry.tags(version)


def test_a_reason_serves_its_author_alone(registry):
    version = registry.register("borrowed-reason")
    registry.set_tag("rob", version, "review.reason", "rob's own")
    refused = registry.set_alias("rita", version)
    assert (refused.status_code, registry.champion("borrowed-reason")) == (403, "")


def test_the_next_champion_follows_and_the_former_comes_back(registry):
    first, second = registry.register("followed"), registry.register("followed")
    assert registry.approve("rita", first).status_code == 200
    assert registry.approve("rob", second).status_code == 200
    assert (registry.champion("followed"), registry.tags(first)["review.status"]) == ("2", "former champion")
    back = registry.set_tag("rita", first, "review.rollback", "the second misses nodules")
    assert back.status_code == 200, back.text
    assert (registry.champion("followed"), registry.tags(second)["review.status"]) == ("1", "former champion")
    last = registry.audit("followed")[-1]
    assert (last["action"], last["previous_champion"], last["champion"]) == ("rolled_back", "2", "1")
    again = registry.approve("rob", second)
    assert (again.status_code, registry.champion("followed")) == (200, "2")


def test_a_rollback_goes_back_to_a_former_champion_alone(registry):
    first, second = registry.register("never"), registry.register("never")
    registry.approve("rita", first)
    for version, rule in ((second, "former_champion"), (first, "already_champion")):
        refused = registry.set_tag("rita", version, "review.rollback", "why not")
        assert refused.status_code == 403
        assert f"'{rule}'" in refused.json()["message"]
    assert registry.champion("never") == "1"


def test_a_rejected_champion_is_none(registry):
    version = registry.register("withdrawn")
    registry.approve("rita", version)
    assert registry.set_tag("rob", version, "review.reject", "a leak was found").status_code == 200
    assert registry.champion("withdrawn") == ""
    assert registry.tags(version)["review.status"] == "rejected"
    last = registry.audit("withdrawn")[-1]
    assert (last["action"], last["previous_champion"], last["champion"]) == ("rejected", "1", "")


def test_a_decision_whose_answer_was_lost_is_made_once(registry):
    version = registry.register("sent-twice")
    for _ in range(3):
        assert registry.approve("rita", version, "once is enough").status_code == 200
    assert [entry["action"] for entry in registry.audit("sent-twice")] == ["registered", "approved"]


def test_what_the_gate_rejected_is_never_champion(registry):
    version = registry.register("poor", decision="rejected")
    refused = registry.approve("rita", version)
    assert refused.status_code == 403
    assert "'gate_passed'" in refused.json()["message"]


def test_evidence_that_changed_on_the_disk_is_found(registry):
    version = registry.register("touched")
    report = registry.folder / "artifacts" / version.run_files / "evidence" / "evaluation" / "report.html"
    report.write_text("better figures")
    refused = registry.approve("rita", version)
    assert refused.status_code == 403
    assert "'evidence_unchanged'" in refused.json()["message"]
    assert "evidence/evaluation/report.html was changed" in refused.json()["message"]
    assert registry.champion("touched") == ""


def test_nobody_decides_on_a_model_of_their_own(registry):
    version = registry.register("own", who="both")
    refused = registry.approve("both", version)
    assert refused.status_code == 403
    assert "'four_eyes'" in refused.json()["message"]
    assert registry.approve("rita", version).status_code == 200


def test_whoever_submitted_a_run_of_the_pipelines_does_not_decide_on_it(registry):
    experiment = registry.find_experiment("pipeline", "tumorflow")
    job = {"key": "tumorflow.job", "value": "job-of-both"}
    signed = [job, {"key": "tumorflow.submitted_by", "value": "both"}]
    registry.do("both", "POST", "runs/create", experiment_id=experiment, tags=signed)
    version = registry.register("submitted", run_tags={"tumorflow.job": "job-of-both"})
    refused = registry.approve("both", version)
    assert refused.status_code == 403
    assert "'four_eyes'" in refused.json()["message"]
    assert registry.approve("rob", version).status_code == 200


def test_the_command_decides_and_explains(registry):
    version = registry.register("by-command")
    approved = registry.command(
        "rita", "review", "approve", "by-command", "1", "--reason", "all rules passed"
    )
    assert (approved.returncode, registry.champion("by-command")) == (0, "1"), approved.stderr
    assert "by-command/1" in approved.stdout
    assert "champion by rita" in approved.stdout
    listed = registry.command("vic", "review", "list", "by-command")
    assert listed.stdout == approved.stdout
    refused = registry.command("ann", "review", "reject", "by-command", "1", "--reason", "mine is better")
    assert refused.returncode == 1
    assert refused.stderr.startswith("tumorflow: Refused by the rule 'reviewer_decides'.")
    missing = registry.command("rita", "review", "approve", "by-command", "7", "--reason", "a typing error")
    assert (missing.returncode, "by-command/7" in missing.stderr) == (2, True)
    assert version.number == "1"
