"""Whatever moves `champion`, or changes what a reviewer decides on, tried as whoever may not."""

from collections.abc import Callable

import pytest
import requests
from servers import Registry, Version

pytestmark = pytest.mark.timeout(300)
NO_REVIEWERS = ("admin", "ann", "pipeline", "vic", "nora")
LOOKALIKES = ("Champion", "CHAMPION", "champion_", "-champion", "\uff43hampion")


@pytest.fixture(scope="module")
def settled(registry: Registry) -> tuple[Version, Version]:
    """A champion and a version beside it that could be one."""
    champion, other = registry.register("settled"), registry.register("settled")
    assert registry.approve("rita", champion).status_code == 200
    return champion, other


@pytest.fixture
def unmoved(registry: Registry, settled: tuple[Version, Version]):
    """After a test all is as it was: champion, the versions' tags, and the audit but for roles."""

    def state() -> object:
        tags = [registry.tags(version) for version in settled]
        return registry.champion("settled"), tags, registry.audit("settled")

    before = state()
    yield
    assert state() == before


def refused_by(answer: requests.Response, rule: str = "") -> None:
    assert answer.status_code == 403, answer.text
    if rule:
        assert f"'{rule}'" in answer.json()["message"], answer.text


@pytest.mark.parametrize("who", NO_REVIEWERS)
@pytest.mark.parametrize("key", ["review.approve", "review.rollback", "review.reject", "review.reason"])
def test_only_reviewers_act(registry, settled, unmoved, who, key):
    refused_by(registry.set_tag(who, settled[1], key, "I want it"))


@pytest.mark.parametrize("who", [*NO_REVIEWERS, "rita"])
@pytest.mark.parametrize("prefix", ["/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/"])
def test_the_alias_moves_by_nobody_without_right_and_reason(registry, settled, unmoved, who, prefix):
    asked = {"name": "settled", "version": settled[1].number, "alias": "champion"}
    path = f"{prefix}registered-models/alias"
    refused_by(registry.ask(who, "POST", path, json=asked))
    refused_by(registry.ask(who, "DELETE", path, json={"name": "settled", "alias": "champion"}))


@pytest.mark.parametrize("alias", LOOKALIKES)
@pytest.mark.parametrize("who", ["admin", "ann", "rita"])
def test_nothing_is_called_as_if_it_were_champion(registry, settled, unmoved, who, alias):
    answer = registry.set_alias(who, settled[1], alias)
    assert answer.status_code in (400, 403), answer.text  # MLflow itself refuses some of the names


@pytest.mark.parametrize("who", ["admin", "ann", "pipeline", "rita"])
@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("review.status", "review_tags"),
        ("review.by", "review_tags"),
        ("review.reason_by", "review_tags"),
        ("Review.Approve", "review_tags"),
        ("tumorflow.evidence_hash", "version_sealed"),
        ("Tumorflow.Decision", "version_sealed"),
    ],
)
def test_tags_that_tell_of_decisions_and_evidence_are_not_forged(registry, settled, unmoved, who, key, rule):
    refused_by(registry.set_tag(who, settled[1], key, "forged"), rule)


@pytest.mark.parametrize("who", ["admin", "pipeline", "rita"])
def test_tags_that_tell_of_decisions_and_evidence_are_not_removed(registry, settled, unmoved, who):
    for key in ("tumorflow.evidence_hash", "review.status", "review.by"):
        asked = {"name": "settled", "version": settled[0].number, "key": key}
        refused_by(registry.ask(who, "DELETE", "model-versions/delete-tag", json=asked))


@pytest.mark.parametrize("who", ["admin", "pipeline", "rita"])
@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        (
            "POST",
            "model-versions/transition-stage",
            {"stage": "Production", "archive_existing_versions": True},
        ),
        ("PATCH", "model-versions/update", {"description": "better than it is"}),
        ("DELETE", "model-versions/delete", {}),
        ("POST", "registered-models/rename", {"new_name": "elsewhere"}),
        ("DELETE", "registered-models/delete", {}),
    ],
)
def test_the_champion_keeps_its_place_and_its_words(registry, settled, unmoved, who, method, path, content):
    asked = {"name": "settled", "version": settled[0].number, **content}
    refused_by(registry.ask(who, method, path, json=asked))


@pytest.mark.parametrize("who", ["admin", "pipeline"])
@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("runs/log-metric", {"key": "macro_f1", "value": 1.0, "timestamp": 1}),
        ("runs/log-parameter", {"key": "floor", "value": "0"}),
        ("runs/set-tag", {"key": "mlflow.note.content", "value": "perfect"}),
        ("runs/log-batch", {"metrics": [{"key": "macro_f1", "value": 1.0, "timestamp": 1}]}),
        ("runs/update", {"status": "RUNNING"}),
        ("runs/delete", {}),
    ],
)
def test_the_run_behind_a_version_stays(registry, settled, unmoved, who, path, content):
    refused_by(
        registry.ask(who, "POST", path, json={"run_id": settled[0].run_id, **content}), "evidence_sealed"
    )


def test_its_experiment_is_not_deleted(registry, settled, unmoved):
    for who in ("admin", "pipeline"):
        asked = {"experiment_id": settled[0].experiment_id}
        refused_by(registry.ask(who, "POST", "experiments/delete", json=asked), "evidence_sealed")


def test_its_logged_model_is_not_deleted(registry, settled, unmoved):
    for who in ("admin", "pipeline"):
        refused_by(registry.ask(who, "DELETE", f"logged-models/{settled[0].model_id}"), "evidence_sealed")


@pytest.mark.parametrize("who", ["admin", "pipeline", "rita"])
@pytest.mark.parametrize(
    "place",
    [
        lambda version: f"{version.run_files}/evidence/evaluation/report.html",
        lambda version: f"{version.run_files}/evidence/added.txt",
        lambda version: f"{version.model_files}/data/model.keras",
        lambda version: f"{version.run_files}//evidence/./evaluation/report.html",
        lambda version: version.run_files.upper() + "/evidence/added.txt",
        lambda _version: "tumorflow-audit/00000001.json",
    ],
)
def test_files_behind_a_version_and_copies_of_the_audit_stay(
    registry, settled, unmoved, who, place: Callable[[Version], str]
):
    path = place(settled[0])
    refused_by(registry.upload(who, path, b"better figures"))
    for prefix in ("/api/2.0", "/ajax-api/2.0"):
        refused_by(registry.ask(who, "DELETE", f"{prefix}/mlflow-artifacts/artifacts/{path}"))
        refused_by(
            registry.ask(who, "POST", f"{prefix}/mlflow-artifacts/mpu/create/{path}", json={"num_parts": 1})
        )


def test_no_folder_above_a_version_is_removed(registry, settled, unmoved):
    for path in (settled[0].experiment_id, f"{settled[0].experiment_id}/models"):
        refused_by(registry.ask("admin", "DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{path}"))


def test_the_page_of_a_run_uploads_nothing_to_it(registry, settled, unmoved):
    asked = {"run_uuid": settled[0].run_id, "path": "evidence/evaluation/report.html"}
    answer = registry.ask(
        "pipeline", "POST", "/ajax-api/2.0/mlflow/upload-artifact", params=asked, data=b"better figures"
    )
    refused_by(answer, "evidence_sealed")


def test_evidence_of_one_version_does_not_serve_another(registry, settled, unmoved):
    champion = settled[0]
    own = registry.register("borrowed", who="ann", decision="rejected")
    tags = [{"key": "tumorflow.evidence_hash", "value": registry.tags(champion)["tumorflow.evidence_hash"]}]
    made = registry.do(
        "ann", "POST", "model-versions/create", name="borrowed", source=f"models:/{own.model_id}",
        run_id=champion.run_id, model_id=own.model_id, tags=tags,
    )["model_version"]  # fmt: skip
    forged = Version("borrowed", made["version"], "", "", "", "", "")
    refused_by(registry.approve("rita", forged), "evidence_unchanged")
    assert registry.champion("borrowed") == ""


def test_a_version_without_evidence_is_never_champion(registry):
    version = registry.register("bare", with_evidence=False)
    refused_by(registry.approve("rita", version), "evidence_registered")
    forged = registry.set_tag("pipeline", version, "tumorflow.evidence_hash", "ab" * 32)
    refused_by(forged, "version_sealed")


def test_who_made_what_is_not_for_the_client_to_say(registry):
    experiment = registry.find_experiment("both", "tumorflow")
    made = registry.do("both", "POST", "runs/create", experiment_id=experiment, user_id="rob")
    run_id = made["run"]["info"]["run_id"]
    assert registry.do("both", "GET", "runs/get", run_id=run_id)["run"]["info"]["user_id"] == "both"
    asked = {"run_id": run_id, "key": "tumorflow.submitted_by", "value": "rob"}
    refused_by(registry.ask("both", "POST", "runs/set-tag", json=asked), "origin_kept")


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "settled", "version": "2", "alias": "candidate", "alias": "champion"}',
        '"{\\"name\\": \\"settled\\", \\"version\\": \\"2\\", \\"alias\\": \\"champion\\"}"',
        '{"name": "settled", "version": "2", "alias": "\\u0063hampion"}',
    ],
)
def test_two_readings_of_a_request_help_nobody(registry, settled, unmoved, body):
    for who in ("admin", "ann"):
        answer = registry.ask(
            who, "POST", "registered-models/alias?alias=candidate", data=body,
            headers={"Content-Type": "application/json", "X-HTTP-Method-Override": "GET"},
        )  # fmt: skip
        assert answer.status_code in (400, 403), answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-User": "rita"},
        {"X-Remote-User": "rita"},
        {"Authorization": "Bearer rita"},
    ],
)
def test_headers_make_nobody_a_reviewer(registry, settled, unmoved, headers):
    content = {"name": "settled", "version": "2", "key": "review.approve", "value": "forged"}
    url = f"{registry.url}/api/2.0/mlflow/model-versions/set-tag"
    account = None if "Authorization" in headers else ("ann", "of-the-tests-for-ann-1")
    answer = requests.post(url, json=content, headers=headers, auth=account, timeout=30)
    assert answer.status_code in (401, 403), answer.text


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://localhost:8888", ""])
def test_another_site_does_nothing_in_a_reviewers_name(registry, settled, unmoved, origin):
    content = '{"name": "settled", "version": "2", "key": "review.approve", "value": "by a page"}'
    for content_type in ("application/json", "text/plain"):
        headers = {"Origin": origin, "Content-Type": content_type}
        answer = registry.ask("rita", "POST", "model-versions/set-tag", data=content, headers=headers)
        assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("who", ["vic", "nora"])
def test_viewers_make_nothing(registry, who):
    for path, content in (
        ("experiments/create", {"name": "mine"}),
        ("registered-models/create", {"name": "mine"}),
        ("registered-models/set-tag", {"name": "settled", "key": "a", "value": "b"}),
    ):
        refused_by(registry.ask(who, "POST", path, json=content))


def test_no_one_makes_themselves_a_reviewer_and_whoever_does_is_in_the_audit(registry):
    roles = registry.do("admin", "GET", "/api/3.0/mlflow/roles/list", workspace="default")["roles"]
    reviewer = next(role["id"] for role in roles if role["name"] == "reviewer")
    asked = {"username": "ann", "role_id": reviewer}
    for who in ("ann", "pipeline", "rita", "vic"):
        answer = registry.ask(who, "POST", "/api/3.0/mlflow/roles/assign", json=asked)
        assert answer.status_code == 403, answer.text
    registry.do("admin", "POST", "/api/3.0/mlflow/roles/assign", **asked)
    last = registry.audit()[-1]
    assert (last["action"], last["actor"], last["reason"]) == ("role_given", "admin", "reviewer: ann")
    registry.do("admin", "DELETE", "/api/3.0/mlflow/roles/unassign", **asked)
    assert registry.audit()[-1]["action"] == "role_taken"
    renamed = registry.ask(
        "admin", "PATCH", "/api/3.0/mlflow/roles/update", json={"role_id": reviewer, "name": "anything"}
    )
    refused_by(renamed, "roles_keep_names")
