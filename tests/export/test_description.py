"""What the reviewer reads, from figures written by hand."""

import pytest

from tumorflow.export.description import LIMIT, Facts, describe, plain

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75}
CLASSES = ("normal", "malignant")
METRICS = {
    "macro_f1": FIGURE,
    "calibration_error": {"value": None, "low": None, "high": None},
    "recall_normal": {"value": 1.0, "low": None, "high": None},
    "recall_malignant": FIGURE,
    "about": {"confidence_level": 0.9, "slices": 12, "groups": 4, "bootstrap_unit": "patient"},
}
TAGS = {"tumorflow.data_hash": "d" * 32, "tumorflow.git_commit": "c" * 40, "tumorflow.seed": "7"}


def rule(name, passed, message="said"):
    return {"name": name, "passed": passed, "observed": 1, "required": 1, "message": message}


PASSED = (rule("macro_f1", passed=True), rule("macro_auc", passed=True))


def facts(rules=PASSED, not_judged=(), champion="", metrics=METRICS, **other):
    accepted = all(rule["passed"] for rule in rules)
    decision = {
        "decision": "accepted" if accepted else "rejected",
        "champion": champion,
        "rules": list(rules),
        "not_judged": list(not_judged),
    }
    given = {"name": "tumorflow-ct", "classes": CLASSES, "tags": TAGS} | other
    return Facts(decision=decision, metrics=metrics, **given)


def test_an_accepted_version_without_champion_reads_like_this():
    told = describe(facts(picture="evidence/overview.png"), "7", "abc")
    assert (
        told
        == """\
**Accepted by the gate**: all 2 rules passed. CT slices → normal, malignant.

### [Read the report](#/experiments/7/runs/abc/artifacts/evidence/evaluation/report.html) · [TFLite variants](#/experiments/7/runs/abc/artifacts/evidence/release/variants.html)

| Metric&emsp; | Value (90% interval) |
| --- | --- |
| Macro-F1&emsp; | 0.500 (0.250 to 0.750) |
| Calibration error (ECE)&emsp; | undefined |
| Recall of normal&emsp; | 1.000 |
| Recall of malignant&emsp; | 0.500 (0.250 to 0.750) |

12 test slices in 4 groups; intervals by bootstrap over each patient.

**Champion:** this version was compared with none.

![Confusion matrix, ROC curves, reliability and Grad-CAM]\
(get-artifact?path=evidence/overview.png&run_uuid=abc)

**Made from** data `dddddddddddddddddddddddddddddddd`, commit `cccccccccccccccccccccccccccccccccccccccc`, \
seed `7`; [the run](#/experiments/7/runs/abc).

**To decide:** add the tag `review.approve` or `review.reject` below, with your reason as its value; \
or `tumorflow review approve tumorflow-ct VERSION --reason …`.

**For research, not for clinical decisions.**"""  # noqa: E501 - a link in one line
    )


def test_a_rejected_version_says_why_and_that_it_cannot_become_champion():
    rules = (rule("macro_f1", passed=False, message="Macro-F1 is 0.2."), rule("macro_auc", passed=True))
    told = describe(facts(rules, [{"name": "not_worse", "message": "Few groups."}]), "7", "abc")
    assert told.startswith("**Rejected by the gate**: 1 of 2 rules failed, 1 without a verdict.")
    assert "- **failed** macro_f1: Macro-F1 is 0.2.\n- **no verdict** not_worse: Few groups." in told
    assert "the gate rejected this version; it cannot become champion" in told
    assert "review.approve" not in told


@pytest.mark.parametrize(
    ("not_judged", "groups"),
    [("", "on 3 groups that it never saw"), ("few", "on 9 groups of the test set, for information only")],
)
def test_the_comparison_says_on_which_groups(not_judged, groups):
    paired = {"macro_f1": {"model": FIGURE, "champion": {"value": 0.75}, "difference": {"value": -0.25}}}
    champion = {
        "not_judged": not_judged,
        "unseen": {"groups": 3, "metrics": paired},
        "all": {"groups": 9, "metrics": paired},
    }
    metrics = {**METRICS, "about": {"champion": champion}}
    told = describe(facts(champion="tumorflow-ct/3", metrics=metrics), "7", "abc")
    assert f"**Against the champion tumorflow-ct/3**, {groups}:" in told
    assert "| Macro-F1&emsp; | 0.500&emsp; | 0.750&emsp; | -0.250 |" in told


def test_a_champion_that_could_not_be_compared_is_named():
    metrics = {"about": {"champion": {"not_judged": "other classes", "unseen": None, "all": None}}}
    told = describe(facts(champion="tumorflow-ct/3", metrics=metrics), "7", "abc")
    assert "**Champion:** tumorflow-ct/3; the two could not be compared." in told


def test_of_many_classes_those_recalled_worst_are_told():
    classes = [f"class{number}" for number in range(40)]
    metrics = {f"recall_{name}": {"value": number / 40} for number, name in enumerate(classes)}
    told = describe(facts(classes=classes, metrics={**metrics, "about": {}}), "7", "abc")
    assert "class0, class1, class2, class3, class4, class5 and 34 more." in told
    assert "Recall of class5" in told
    assert "Recall of class6" not in told
    assert "The 6 classes recalled worst, of 40." in told


@pytest.mark.parametrize("letter", ["x", "|", "ß", "_"])
def test_it_never_outgrows_the_column(letter):
    rules = [rule(letter * 500, passed=False, message=letter * 9000) for _ in range(50)]
    big = facts(
        rules,
        classes=[letter * 300] * 100,
        champion=letter * 1000,
        name=letter * 256,
        tags=dict.fromkeys(TAGS, letter * 5000),
        picture="evidence/overview.png",
    )
    told = describe(big, "1" * 20, "r" * 32)
    assert len(told) <= LIMIT
    assert told.startswith("**Rejected by the gate**: 50 of 50 rules failed.")
    assert "/evidence/evaluation/report.html)" in told
    assert told.endswith("**For research, not for clinical decisions.**")


def test_names_cannot_write_markdown():
    assert plain("a|b\n<img> [x](y) `z`", 99) == "a&#124;b &#60;img&#62; &#91;x&#93;(y) &#96;z&#96;"
    assert plain("abcdef", 4) == "abc…"
