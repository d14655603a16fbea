"""`tumorflow schedule` against a small Kubeflow, and the times that it takes."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.cli import main
from tumorflow.errors import UsageError
from tumorflow_pipelines.triggers import parse_cron, parse_interval

SETTINGS = (
    *("--source", "s3://bucket/ct"),
    *("--set", "cluster.mlflow_tracking_uri=http://mlflow:5000"),
)


def create(*when: str, name: str = "nightly") -> int:
    return main(["schedule", "create", name, *when, *SETTINGS])


def test_a_schedule_never_catches_up_and_works_one_at_a_time(kubeflow, capsys):
    assert create("--cron", "30 2 * * mon-fri") == 0
    (made,) = kubeflow.recurring.values()
    (version,) = kubeflow.versions.values()
    (pipeline,) = kubeflow.pipelines.values()
    assert pipeline.display_name == "tumorflow-retrain"
    assert made.display_name == "nightly"
    assert made.trigger.cron_schedule.cron == "0 30 2 * * mon-fri"
    assert made.max_concurrency == "1"
    assert made.no_catchup is True
    assert made.status == "ENABLED"
    assert made.pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
    assert made.runtime_config.parameters["source"] == "s3://bucket/ct"
    assert "data_hash" not in made.runtime_config.parameters, "each run finds the newest version"
    assert kubeflow.experiments[made.experiment_id].display_name == "tumorflow"
    assert capsys.readouterr().out == "schedule 'nightly': cron '0 30 2 * * mon-fri' UTC\n"


def test_a_schedule_takes_the_place_of_its_former_self_and_of_no_other(kubeflow, capsys):
    assert create("--cron", "0 3 * * *") == 0
    assert create("--every", "1d", name="daily") == 0
    former, other = kubeflow.recurring
    assert create("--every", "6h") == 0
    assert kubeflow.deletions == [(former, "ORPHAN")], "a run under way is not deleted with its schedule"
    assert other in kubeflow.recurring
    (made,) = [entry for entry in kubeflow.recurring.values() if entry.display_name == "nightly"]
    assert made.trigger.periodic_schedule.interval_second == "21600"
    assert made.status == "ENABLED"
    assert "in the place of its former self" in capsys.readouterr().out


def test_two_of_one_name_are_never_enabled_together(kubeflow):
    assert create("--every", "1h") == 0
    kubeflow.requests.clear()
    assert create("--every", "2h") == 0
    (made,) = kubeflow.recurring
    asked = [request for request in kubeflow.requests if "recurringruns" in request]
    assert [request.split("/")[0] for request in asked] == ["GET ", "POST ", "DELETE ", "POST "]
    assert asked[-1].endswith(f"{made}:enable"), "made disabled, enabled when the former is gone"


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/recurringruns/"), ("POST", "/recurringruns/"), ("POST", "/recurringruns")],
)
@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_command_that_was_cut_off_is_made_good_by_the_same_command(kubeflow, capsys, method, path, drop):
    assert create("--every", "1h") == 0
    kubeflow.fail(method, path, times=9 if method == "DELETE" else 1, drop=drop)
    create("--every", "2h")
    enabled = [entry for entry in kubeflow.recurring.values() if entry.status == "ENABLED"]
    assert len(enabled) <= 1
    kubeflow.faults.clear()
    assert create("--every", "2h") == 0
    (made,) = kubeflow.recurring.values()
    assert made.status == "ENABLED"
    assert made.trigger.periodic_schedule.interval_second == "7200"


def test_schedules_are_listed_over_all_pages(kubeflow, capsys):
    assert main(["schedule", "list"]) == 0
    assert capsys.readouterr().out == "no schedules yet\n"
    kubeflow.page_limit = 1
    assert create("--cron", "0 3 * * *") == 0
    assert create("--every", "30m", name="often") == 0
    list(kubeflow.recurring.values())[1].status = "DISABLED"
    capsys.readouterr()
    assert main(["schedule", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nightly  on  cron '0 0 3 * * *' UTC",
        "often  off  every 30 min",
    ]


def test_a_schedule_is_deleted_by_its_name(kubeflow, capsys):
    assert create("--every", "1h") == 0
    assert create("--every", "1h", name="other") == 0
    assert main(["schedule", "delete", "nightly"]) == 0
    assert [entry.display_name for entry in kubeflow.recurring.values()] == ["other"]
    assert main(["schedule", "delete", "nightly"]) == 2
    assert "there are: other." in capsys.readouterr().err


def test_a_schedule_of_the_same_name_of_another_pipeline_is_left_alone(kubeflow, capsys):
    assert create("--every", "1h", name="mine") == 0
    (mine,) = kubeflow.recurring.values()
    other = copy.deepcopy(mine)
    other.recurring_run_id, other.display_name = "another-teams", "nightly"
    other.pipeline_version_reference.pipeline_id = "another-pipeline"
    kubeflow.recurring["another-teams"] = other
    assert create("--every", "2h") == 0
    assert "another-teams" in kubeflow.recurring
    assert main(["schedule", "delete", "nightly"]) == 0
    assert "another-teams" in kubeflow.recurring
    capsys.readouterr()
    assert main(["schedule", "list"]) == 0
    assert capsys.readouterr().out == "mine  on  every 60 min\n"


def test_a_refusal_leaves_the_former_schedule(kubeflow, capsys):
    assert create("--every", "1h") == 0
    (former,) = kubeflow.recurring
    kubeflow.fail("POST", "/recurringruns", status=403)
    assert create("--every", "2h") == 2
    assert list(kubeflow.recurring) == [former]
    assert "allowed to make a recurring run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expression", "parsed"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("*/15 8-18 * * MON-FRI", "0 */15 8-18 * * mon-fri"),
        ("10 0 3 1,15 jan,jul ?", "10 0 3 1,15 jan,jul ?"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 31 2 mon", "0 0 0 31 2 mon"),
        ("5/20 * * * *", "0 5/20 * * * *"),
    ],
)
def test_cron_has_five_fields_or_six_with_seconds_first(expression, parsed):
    assert parse_cron(expression) == parsed


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "daily",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "* * * * sunday",
        "*/0 * * * *",
        "5-1 * * * *",
        "1, * * * *",
        "-1 * * * *",
        "² * * * *",
        "0 0 31 4,6 *",
        "0 0 30 2 ?",
    ],
)
def test_nonsense_is_no_cron_expression(expression):
    with pytest.raises(UsageError, match="Received"):
        parse_cron(expression)


@given(st.text(alphabet="0123456789*,-/? abcmonjan", max_size=30))
def test_whatever_is_written_is_a_schedule_or_refused(text):
    try:
        parsed = parse_cron(text)
    except UsageError:
        return
    assert len(parsed.split()) == 6
    assert parse_cron(parsed) == parsed


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("6h", 21600), ("1D", 86400)])
def test_an_interval_has_a_unit(text, seconds):
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "0h", "30s", "1.5h", "h", "-1h", "1w", "999999m"])
def test_nonsense_is_no_interval(text):
    with pytest.raises(UsageError, match="--every"):
        parse_interval(text)


def test_a_folder_of_this_machine_is_no_source_of_a_schedule(kubeflow, tmp_path, capsys):
    assert main(["schedule", "create", "nightly", "--every", "1d", *SETTINGS, "--source", str(tmp_path)]) == 2
    assert "a folder of this machine" in capsys.readouterr().err
    assert not kubeflow.recurring
    mounted = ("--set", "cluster.source_volume.claim=hospital", "--source", "/sources/ct")
    assert main(["schedule", "create", "nightly", "--every", "1d", *SETTINGS, *mounted]) == 0


@pytest.mark.parametrize("when", [("--cron", "never"), ("--every", "often")])
def test_nonsense_is_refused_before_anything_is_sent(kubeflow, when):
    assert create(*when) == 2
    assert not kubeflow.requests
