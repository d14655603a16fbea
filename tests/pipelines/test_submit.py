"""`tumorflow submit` against a small Kubeflow: what the server holds afterwards, and what a person reads."""

import json
import socket

import pytest
import yaml
from servers import make_registry, password_of

from tumorflow.cli import main
from tumorflow.tracking import look_up_champion
from tumorflow_pipelines import following, kubeflow_client

DATA_HASH = "0123456789abcdef0123456789abcdef"
SUBMIT = (
    *("submit", "--source", "s3://bucket/ct", "--data-hash", DATA_HASH),
    *("--set", "cluster.mlflow_tracking_uri=http://mlflow:5000"),
)
ALL = ("ingest", "validate", "preprocess", "train", "evaluate")
GREEN = dict.fromkeys(ALL, "SUCCEEDED")
ACCEPTED = [
    ("PENDING", {}),
    (None, {}),
    ("RUNNING", {"ingest": "RUNNING"}),
    ("RUNNING", {"ingest": "SUCCEEDED", "validate": "SUCCEEDED", "preprocess": "RUNNING"}),
    ("SUCCEEDED", {**GREEN, "export": "SUCCEEDED"}),
]
REJECTED = [("SUCCEEDED", {**GREEN, "export-2": "SUCCEEDED"})]


def test_a_run_is_made_of_the_uploaded_version_and_followed_to_its_decision(kubeflow, capsys):
    kubeflow.frames = list(ACCEPTED)
    assert main([*SUBMIT, "--set", "train.epochs=2"]) == 0
    (run,) = kubeflow.runs.values()
    (experiment,) = kubeflow.experiments.values()
    (pipeline,) = kubeflow.pipelines.values()
    (version,) = kubeflow.versions.values()
    assert experiment.display_name == "tumorflow"
    assert pipeline.display_name == "tumorflow-train"
    assert version.display_name.startswith("0.1.0-")
    assert run.experiment_id == experiment.experiment_id
    assert run.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    given = run.runtime_config.parameters
    assert (given["source"], given["data_hash"]) == ("s3://bucket/ct", DATA_HASH)
    assert given["key_id"] == "", "the cluster's key is not this machine's"
    assert given["light_image"].startswith("localhost/tumorflow-light:")
    assert json.loads(given["train_params"])["epochs"] == 2
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[0] == f"data: s3://bucket/ct, version {DATA_HASH}"
    assert lines[1] == "champion: not looked up, without MLFLOW_TRACKING_URI and an account of yours there"
    assert lines[2] == f"run: {run.run_id}, {kubeflow.url}/#/runs/details/{run.run_id}"
    assert lines[3] == "submitted by: not recorded, without MLFLOW_TRACKING_URI and an account of yours there"
    assert lines[4:7] == ["ingest …", "ingest: done in 42.0 s", "validate: done in 42.0 s"]
    assert "export: done in 42.0 s" in lines
    assert "driver" not in told
    assert "executor" not in told
    assert "decision: accepted" in lines
    assert f"tumorflow status {run.run_id}" in told, "how to get the summary later"


def test_the_uploaded_definition_is_for_this_cluster(kubeflow):
    kubeflow.frames = list(ACCEPTED)
    digest = f"registry.example/light@sha256:{'ab' * 32}"
    assert main([*SUBMIT, "--set", f"cluster.images.light={digest}"]) == 0
    (definition,) = kubeflow.definitions.values()
    spec, platforms = yaml.safe_load_all(definition)
    assert spec["deploymentSpec"]["executors"]["exec-ingest"]["container"]["image"] == digest
    pods = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert pods["exec-train"]["activeDeadlineSeconds"] == "86400"
    (run,) = kubeflow.runs.values()
    assert run.runtime_config.parameters["light_image"] == digest


def test_a_second_run_takes_the_version_that_is_there_and_another_definition_makes_one(kubeflow):
    kubeflow.page_limit = 1
    for extra in ((), (), ("--set", "cluster.retries.count=1"), ("--set", "cluster.retries.count=1")):
        kubeflow.frames = list(ACCEPTED)
        assert main([*SUBMIT, *extra]) == 0
    assert len(kubeflow.runs) == 4
    assert len({run.display_name for run in kubeflow.runs.values()}) == 4
    assert (len(kubeflow.experiments), len(kubeflow.pipelines), len(kubeflow.versions)) == (1, 1, 2)


def test_the_summary_comes_from_mlflow_and_decides(kubeflow, capsys, monkeypatch, tmp_path):
    from tumorflow.tracking import finish_job

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    summary = {
        "status": "finished",
        "groups_from": "patient",
        "metrics": {"macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}},
        "decision": {
            "verdict": "rejected",
            "rules": [{"name": "macro_f1", "passed": False, "observed": 0.5, "required": 0.6}],
        },
        "model": {"name": "tumorflow-ct", "version": "7", "aliases": []},
        "steps": [{"cached": True}, {"cached": False}],
        "peak_memory_mb": 512.0,
        "artifacts": {"report": "s3://artifacts/report.html"},
    }
    kubeflow.next_run_id = "6f3c"
    finish_job("6f3c", "FINISHED", summary=summary)
    kubeflow.frames = list(REJECTED)
    assert main([*SUBMIT, "--output", "out"]) == 3
    told = capsys.readouterr().out
    assert "decision: rejected" in told
    assert "FAILED  macro_f1: 0.5 (required 0.6)" in told
    assert "steps:    1 run, 1 unchanged" in told
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    kubeflow.frames = list(REJECTED)
    assert main(["status", "6f3c"]) == 3
    assert "decision: rejected" in capsys.readouterr().out


def test_a_summary_of_a_failure_that_kubeflow_knows_nothing_of_leaves_the_decision_to_the_branch(
    kubeflow, capsys, monkeypatch, tmp_path
):
    from tumorflow.tracking import finish_job

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    kubeflow.next_run_id = "6f3c"
    finish_job("6f3c", "FAILED", summary={"status": "failed", "decision": None})
    kubeflow.frames = list(REJECTED)
    assert main(SUBMIT) == 3
    assert "decision: rejected" in capsys.readouterr().out


def test_the_reason_of_a_failed_run_comes_from_mlflow_with_its_exit_code(
    kubeflow, capsys, monkeypatch, tmp_path
):
    from tumorflow.conclusion import failed
    from tumorflow.errors import SourceError
    from tumorflow.tracking import finish_job

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    kubeflow.next_run_id = "6f3c"
    finish_job("6f3c", "FAILED", summary=failed(SourceError("A source has slices. Received: none.")))
    kubeflow.frames = [("FAILED", {"ingest": "FAILED"})]
    assert main([*SUBMIT]) == 2
    done = capsys.readouterr()
    assert "ingest: failed" in done.out
    assert done.err == "tumorflow: A source has slices. Received: none.\n"
    assert json.loads((tmp_path / "runs" / "6f3c" / "summary.json").read_text())["status"] == "failed"


def test_without_mlflow_the_branch_tells_the_decision(kubeflow, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    kubeflow.frames = list(REJECTED)
    assert main([*SUBMIT]) == 3
    told = capsys.readouterr().out
    assert "no usable answer from http://127.0.0.1:9" in told
    assert "decision: rejected" in told


def test_a_run_that_fails_midway_names_the_step(kubeflow, capsys):
    kubeflow.error = "task 'train' errored: OOMKilled"
    kubeflow.frames = [
        ("RUNNING", {"ingest": "SUCCEEDED", "train": "RUNNING"}),
        ("FAILED", {"ingest": "SUCCEEDED", "train": "FAILED"}),
    ]
    assert main([*SUBMIT]) == 1
    done = capsys.readouterr()
    assert "train: failed" in done.out
    assert "train failed" in done.err
    assert "OOMKilled" in done.err
    assert f"{kubeflow.url}/#/runs/details/" in done.err


def test_a_run_that_somebody_stopped_is_told(kubeflow, capsys):
    kubeflow.frames = [("CANCELED", {"train": "CANCELED"})]
    assert main([*SUBMIT]) == 1
    done = capsys.readouterr()
    assert "train: stopped" in done.out
    assert "Received: canceled" in done.err


def test_a_run_is_left_to_itself_where_nobody_waits(kubeflow, capsys):
    assert main([*SUBMIT, "--no-wait", "--name", "mine"]) == 0
    (run,) = kubeflow.runs.values()
    assert run.display_name == "mine"
    assert f"tumorflow status {run.run_id}" in capsys.readouterr().out
    assert not [request for request in kubeflow.requests if request.startswith("GET /apis/v2beta1/runs/")]


def test_an_interrupted_command_leaves_the_run_and_says_how_to_see_it_again(kubeflow, capsys, monkeypatch):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupt)
    assert main([*SUBMIT]) == 130
    (run_id,) = kubeflow.runs
    assert f"tumorflow status {run_id} --wait" in capsys.readouterr().err
    assert kubeflow.runs[run_id].state == "PENDING"
    assert not [request for request in kubeflow.requests if "terminate" in request]


def test_following_outlives_a_server_that_is_away(kubeflow, capsys):
    kubeflow.frames = list(ACCEPTED)
    kubeflow.fail("GET", "/runs/", times=3, status=503)
    kubeflow.fail("GET", "/runs/", times=4, drop="before")
    assert main([*SUBMIT]) == 0
    told = capsys.readouterr().out
    assert told.count("does not answer") == 1
    assert "decision: accepted" in told


def test_following_gives_up_after_a_while(kubeflow, capsys, monkeypatch):
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.0)
    kubeflow.fail("GET", "/runs/", times=99, status=500)
    assert main([*SUBMIT]) == 1
    assert "Received: 500 from" in capsys.readouterr().err


def test_a_token_that_ran_out_ends_following_not_the_run(kubeflow, capsys):
    kubeflow.fail("GET", "/runs/", times=99, status=401)
    assert main([*SUBMIT]) == 2
    (run_id,) = kubeflow.runs
    told = capsys.readouterr().err
    assert "KF_PIPELINES_TOKEN" in told
    assert f"the run goes on by itself: tumorflow status {run_id} --wait" in told


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_answer_starts_no_second_run(kubeflow, capsys, drop):
    kubeflow.frames = list(ACCEPTED)
    kubeflow.fail("POST", "/runs", drop=drop)
    code = main([*SUBMIT])
    assert (code, len(kubeflow.runs)) == ((0, 1) if drop == "after" else (1, 0))
    if drop == "before":
        assert "broken connection" in capsys.readouterr().err


def test_an_earlier_run_of_the_same_name_is_not_taken_for_the_one_that_failed_to_start(kubeflow, capsys):
    kubeflow.frames = list(ACCEPTED)
    assert main([*SUBMIT, "--name", "weekly"]) == 0
    kubeflow.fail("POST", "/runs", drop="before")
    assert main([*SUBMIT, "--name", "weekly"]) == 1
    assert "broken connection" in capsys.readouterr().err
    kubeflow.fail("POST", "/runs", drop="after")
    assert main([*SUBMIT, "--name", "weekly", "--no-wait"]) == 0
    assert len(kubeflow.runs) == 2
    assert list(kubeflow.runs)[1] in capsys.readouterr().out


def test_the_token_of_a_file_is_sent_and_never_shown(kubeflow, capsys, tmp_path):
    kubeflow.token = "very-secret"
    kubeflow.frames = list(ACCEPTED)
    (tmp_path / "token").write_text("very-secret\n")
    assert main([*SUBMIT, "--token-file", "token"]) == 0
    done = capsys.readouterr()
    assert "very-secret" not in done.out + done.err


def test_a_token_of_the_environment_is_sent(kubeflow, monkeypatch):
    kubeflow.token = "very-secret"
    kubeflow.frames = list(ACCEPTED)
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "very-secret")
    assert main([*SUBMIT]) == 0


def test_where_many_users_are_the_namespace_is_sent_and_asked_for(kubeflow, capsys):
    kubeflow.multi_user = True
    kubeflow.frames = list(ACCEPTED)
    assert main([*SUBMIT]) == 2
    assert "--namespace" in capsys.readouterr().err
    assert main([*SUBMIT, "--namespace", "team"]) == 0
    assert [entry.namespace for entry in kubeflow.experiments.values()] == ["team"]
    assert [entry.namespace for entry in kubeflow.pipelines.values()] == ["team"]


def test_an_experiment_that_is_named_must_exist(kubeflow, capsys):
    kubeflow.page_limit = 2
    for name in ("a", "b", "c"):
        kubeflow.add_experiment(name)
    assert main([*SUBMIT, "--experiment", "d"]) == 2
    assert "there are: a, b, c." in capsys.readouterr().err
    assert not kubeflow.runs
    kubeflow.frames = list(ACCEPTED)
    assert main([*SUBMIT, "--experiment", "c"]) == 0
    (run,) = kubeflow.runs.values()
    assert kubeflow.experiments[run.experiment_id].display_name == "c"


REFUSALS = {
    "401": ({"status": 401}, 2, "KF_PIPELINES_TOKEN"),
    "403": ({"status": 403}, 2, "allowed to list experiments"),
    "500": ({"status": 500}, 1, "Received: 500"),
    "a login page": ({"html": True}, 2, "Received: text/html"),
    "a redirection": ({"location": "https://dex.example/auth?secret=1"}, 2, "https://dex.example/auth."),
    "a dropped connection": ({"drop": "before"}, 1, "broken connection"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_message_with_its_remedy(kubeflow, capsys, name):
    what, code, told = REFUSALS[name]
    kubeflow.fail("GET", "/experiments", times=9, **what)
    assert main([*SUBMIT]) == code
    done = capsys.readouterr()
    assert told in done.err
    assert done.err.count("\n") == 1
    assert "secret=1" not in done.err
    assert not kubeflow.runs


def test_a_slow_server_is_not_waited_for_for_ever(kubeflow, capsys, monkeypatch):
    monkeypatch.setattr(kubeflow_client, "TIMEOUT_SECONDS", (0.1, 0.1))
    kubeflow.fail("GET", "/experiments", times=9, seconds=0.5)
    assert main([*SUBMIT]) == 1
    assert "answers within the time allowed" in capsys.readouterr().err


def test_a_server_of_another_minor_version_is_noted(kubeflow, capsys):
    kubeflow.tag_name = "2.4.1"
    assert main([*SUBMIT, "--no-wait"]) == 0
    assert "note: the server is Kubeflow Pipelines 2.4.1" in capsys.readouterr().out


def test_a_server_of_another_major_version_is_refused(kubeflow, capsys):
    kubeflow.tag_name = "3.0.0"
    assert main([*SUBMIT]) == 2
    assert "Received: 3.0.0" in capsys.readouterr().err


def test_a_server_without_the_second_api_is_refused(kubeflow, capsys):
    kubeflow.fail("GET", "/healthz", status=404)
    assert main([*SUBMIT]) == 2
    assert "v2beta1" in capsys.readouterr().err


def test_nobody_listens(kubeflow, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main([*SUBMIT, "--host", f"http://user:hunter2@127.0.0.1:{port}"]) == 1
    told = capsys.readouterr().err
    assert "no connection" in told
    assert "port-forward" in told
    assert "hunter2" not in told


def test_no_host(kubeflow, capsys, monkeypatch):
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    assert main([*SUBMIT]) == 2
    assert "KF_PIPELINES_ENDPOINT" in capsys.readouterr().err


@pytest.mark.parametrize("kubeflow", ["https"], indirect=True)
def test_a_certificate_that_nobody_vouches_for(kubeflow, capsys):
    assert main([*SUBMIT, "--no-wait"]) == 1
    told = capsys.readouterr().err
    assert "certificate" in told
    assert "--ca-cert" in told
    assert not kubeflow.runs


@pytest.mark.parametrize("kubeflow", ["https"], indirect=True)
@pytest.mark.parametrize("option", [("--ca-cert", "certificate.pem"), ("--insecure",)])
def test_a_server_is_trusted_by_who_signed_it_or_unseen(kubeflow, option):
    assert main([*SUBMIT, "--no-wait", *option]) == 0
    assert len(kubeflow.runs) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--source", "here"), "a folder of this machine"),
        (("--set", "cluster.mlflow_tracking_uri="), "cluster.mlflow_tracking_uri"),
        (("--set", "cluster.require_digests=true"), "is not named by its digest"),
        (("--set", "cluster.images.light=light"), "has no tag"),
        (("--ca-cert", "nowhere.pem"), "--ca-cert"),
        (("--token-file", "nowhere"), "--token-file"),
        (("--host", "ftp://kubeflow"), "http:// or https://"),
    ],
)
def test_what_cannot_work_there_is_refused_before_anything_is_sent(kubeflow, capsys, tmp_path, options, told):
    (tmp_path / "here").mkdir()
    assert main([*SUBMIT, *options]) == 2
    assert told in capsys.readouterr().err
    assert not kubeflow.pipelines
    assert not kubeflow.runs


def test_a_mounted_folder_needs_a_promised_version_where_it_is_not_mounted_here(kubeflow, capsys):
    mounted = ("--set", "cluster.source_volume.claim=hospital", "--source", "/sources/ct")
    assert main([*SUBMIT, *mounted, "--data-hash", ""]) == 2
    assert "--data-hash" in capsys.readouterr().err
    kubeflow.frames = list(ACCEPTED)
    assert main([*SUBMIT, *mounted]) == 0
    (run,) = kubeflow.runs.values()
    assert run.runtime_config.parameters["source"] == "/sources/ct"
    assert run.runtime_config.parameters["data_hash"] == DATA_HASH


def test_retraining_finds_its_data_in_the_run_and_may_halt(kubeflow, capsys):
    kubeflow.frames = [("SUCCEEDED", {"ingest": "SUCCEEDED", "decide": "SUCCEEDED", "halt": "SUCCEEDED"})]
    retrain = ("--pipeline", "retrain", "--source", "s3://bucket/ct")
    assert main(["submit", *retrain, "--set", "cluster.mlflow_tracking_uri=http://mlflow:5000"]) == 0
    (run,) = kubeflow.runs.values()
    assert "data_hash" not in run.runtime_config.parameters
    assert run.display_name.startswith("retrain 20")
    told = capsys.readouterr().out
    assert told.startswith("data: s3://bucket/ct, version found in the run\n")
    assert "decide: done" in told
    assert "decision: halted" in told


def test_tasks_that_the_server_tells_of_after_the_runs_end_are_heard(kubeflow, capsys):
    stale = dict.fromkeys(ALL, "SUCCEEDED")
    kubeflow.frames = [
        ("SUCCEEDED", {**stale, "export-2": "RUNNING"}),
        ("SUCCEEDED", {**stale, "export-2": "SUCCEEDED"}),
    ]
    assert main([*SUBMIT]) == 3
    told = capsys.readouterr().out
    assert "export: done" in told
    assert "decision: rejected" in told


def test_book_keeping_is_told_of_where_it_fails(kubeflow, capsys):
    kubeflow.frames = [("FAILED", {"export": "SUCCEEDED", "conclude": "FAILED", "finish": "SUCCEEDED"})]
    assert main([*SUBMIT]) == 1
    done = capsys.readouterr()
    assert "conclude: failed" in done.out
    assert "finish" not in done.out
    assert "Received: conclude failed" in done.err


def test_runs_work_under_the_clusters_service_account(kubeflow):
    assert main([*SUBMIT, "--no-wait", "--set", "cluster.service_account=tumorflow-run"]) == 0
    assert [run.service_account for run in kubeflow.runs.values()] == ["tumorflow-run"]


def test_the_champion_of_the_registry_is_the_yardstick(kubeflow, capsys, monkeypatch, tmp_path):
    registry = make_registry(tmp_path)
    registry.start()
    try:
        registry.make_accounts()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password_of("ann"))
        assert look_up_champion("tumorflow-ct") == "", "nobody has registered it yet"
        version = registry.register("tumorflow-ct")
        assert registry.approve("rita", version).status_code == 200
        kubeflow.frames = list(ACCEPTED)
        assert main([*SUBMIT, "--no-wait"]) == 0
    finally:
        registry.kill()
    (run,) = kubeflow.runs.values()
    assert run.runtime_config.parameters["champion"] == "tumorflow-ct/1"
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "champion: tumorflow-ct/1, the yardstick"
    assert "submitted by: ann" in lines
