import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tumorflow import report_page
from tumorflow.bootstrap import Estimate
from tumorflow.evaluation import report
from tumorflow.evaluation.comparison import Comparison, Paired, Sample
from tumorflow.evaluation.gate import Rule, Unjudged
from tumorflow.evaluation.populations import Population

HOSTILE = '<script>alert("x")</script>'
NAN = float("nan")
KINDS = ("precision", "recall", "f1", "auc", "calibration_error")
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "calibration_error", "brier")


def make_findings(classes=("normal", "malignant"), groups_from="patient") -> report.Findings:
    names = (*OVERALL, *(f"{kind}_{name}" for kind in KINDS for name in classes))
    metrics = dict.fromkeys(names, Estimate(0.7123, 0.6, 0.8))
    counts = {split: dict.fromkeys(classes, 4) for split in report.SPLITS}
    return report.Findings(
        decision="rejected",
        rules=(
            Rule("macro_f1", False, 0.5, 0.6, "Macro-F1 is 0.5; at least 0.6 is asked."),
            Rule("macro_auc", False, None, 0.8, "Macro ROC AUC is undefined; at least 0.8 is asked."),
            Rule("test_groups", True, 4, 3, "4 test groups; at least 3 are asked."),
        ),
        unjudged=(),
        comparison=None,
        metrics=metrics,
        patient_metrics=metrics,
        patients_left_out=2,
        about={
            "confidence_level": 0.95,
            "resamples": 1000,
            "calibration_bins": 10,
            "min_population_groups": 5,
            "groups": 8,
            "slices": 24,
            "patients": 6,
            "groups_per_class": dict.fromkeys(classes, 4),
            "slices_per_class": dict.fromkeys(classes, 12),
        },
        populations=(
            Population("sex", "F", 6, 18, "similar", Estimate(0.7, 0.6, 0.8), Estimate(NAN, NAN, NAN)),
            Population("manufacturer", HOSTILE, 2, 6, "too few", None, None),
        ),
        explanations=(report.Explanation(b"png", classes[0], classes[1], 0.91),),
        pictures=dict.fromkeys(("roc", "confusion", "reliability", "intervals", "history"), b"png"),
        confusion=[[3, 1], [0, 4]],
        preprocessing={
            "classes": list(classes),
            "groups_from": groups_from,
            "groups": counts,
            "slices": counts,
            "split_hash": "f00d",
        },
        training={"backbone": "efficientnet_lite0", "weights": {"origin": HOSTILE}, "parameters": 3_413_024},
        warnings=[{"rule": "few", "message": HOSTILE, "remedy": "Add data."}],
        lineage={"data_hash": "da7a", "git_commit": "c0ffee", "ingest": {"content_hash": "1" * 64}},
    )


class Outline(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.void = {"meta", "img", "br", "link", "input"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return report.render(make_findings())


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text.split("</style>")[1]))


def test_has_every_section_in_order(text):
    assert re.findall(r'<h2 id="(\w+)"', text) == [
        "rules",
        "data",
        "metrics",
        "patients",
        "confusion",
        "calibration",
        "populations",
        "gradcam",
        "settings",
        "lineage",
        "limits",
    ]
    assert re.findall(r'href="#(\w+)"', text) == re.findall(r'<h2 id="(\w+)"', text)


def test_is_well_formed_and_accessible(text):
    outline = Outline(text)
    assert outline.open == []
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == 1
    assert all(image["alt"] for image in outline.all("img"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(header.get("scope") in ("col", "row") for header in outline.all("th"))


def test_needs_nothing_from_elsewhere(text):
    outline = Outline(text)
    sources = [attributes["src"] for _, attributes in outline.tags if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not outline.all("script")
    assert not outline.all("link")
    assert not re.search(r"https?:|@import|url\(", text)
    assert all(link["href"].startswith("#") for link in outline.all("a"))


def test_escapes_every_text_from_outside():
    text = report.render(make_findings(classes=("normal", HOSTILE)))
    assert "<script" not in text
    assert "&lt;script&gt;alert(" in text
    assert Outline(text).open == []
    assert any("<script>" in image["alt"] for image in Outline(text).all("img"))  # escaped, read back


def test_says_the_decision_and_what_failed(text):
    said = words(text)
    assert "For research, not for clinical decisions" in said
    assert "rejected 2 of 3 rules failed: Macro-F1 is 0.5; at least 0.6 is asked." in said
    assert "macro auc ✗ failed undefined 0.800" in said
    assert "test groups ✓ passed 4 3" in said


def test_tables_have_each_figure_of_a_class_beneath_its_name():
    findings = make_findings()
    for place, kind in enumerate(KINDS, start=1):
        findings.metrics[f"{kind}_malignant"] = Estimate(place / 10, place / 20, place / 10)
    said = words(report.render(findings))
    assert "Class Precision Recall F1 ROC AUC Calibration error Patients Slices" in said
    assert (
        "malignant 0.10 (0.05–0.10) 0.20 (0.10–0.20) 0.30 (0.15–0.30) 0.40 (0.20–0.40) 0.50 (0.25–0.50)"
        in said
    )


def test_says_how_many_stand_behind_each_interval(text):
    said = words(text)
    assert "0.71 0.60–0.80 n = 8 patients" in said
    assert "normal " + 5 * "0.71 (0.60–0.80) " + "4 12" in said
    assert "Left out: 2 patients whose slices have different labels. n = 6 patients." in said
    assert "as high as about 3 / n (0.38 here)" in said


def test_does_not_measure_small_populations(text):
    said = words(text)
    assert "sex F 6 18 0.70 (0.60–0.80) undefined similar" in said
    assert "2 6 – – too few" in said


def test_carries_warnings_settings_and_lineage(text):
    said = words(text)
    assert "few : &lt;script&gt;" in said
    assert "parameters 3 413 024" in said
    assert "ingest 1111111111111111 – –" in said
    assert "Data da7a , commit c0ffee" in said


def make_comparison(not_judged: str) -> Comparison:
    paired = Paired(Estimate(0.71, 0.6, 0.8), Estimate(0.74, 0.6, 0.8), Estimate(-0.03, -0.0412, 0.02))
    sample = Sample(5, 15, {"normal": 3, "malignant": 2}, {"macro_f1": paired})
    return Comparison(HOSTILE, not_judged, sample, replace(sample, groups=8, slices=24))


def render_against(comparison: Comparison, **replaced) -> str:
    findings = make_findings()
    about = {**findings.about, "champion": {"margin": 0.05}}
    return report.render(replace(findings, comparison=comparison, about=about, **replaced))


def test_shows_both_models_and_their_difference():
    text = render_against(make_comparison(""))
    outline, said = Outline(text), words(text)
    assert outline.open == []
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert "<script" not in text
    assert re.findall(r'href="#(\w+)"', text) == re.findall(r'<h2 id="(\w+)"', text)
    assert "above −0.05, a margin set beforehand" in said
    assert "On the 5 patients (15 slices) that the champion never saw" in said
    assert "On the 8 patients (24 slices) of the test split, for information" in said
    assert "macro f1 0.71 (0.60–0.80) 0.74 (0.60–0.80) −0.03 (−0.04 to +0.02)" in said
    assert "not judged" not in said.lower()


def test_a_rule_without_a_verdict_is_in_plain_sight():
    unjudged = (Unjudged("not_worse_than_champion", "Not judged: few groups."),)
    passed = (Rule("macro_f1", True, 0.7, 0.6, "Macro-F1 is 0.7."),)
    text = render_against(
        make_comparison("few groups."), unjudged=unjudged, rules=passed, decision="accepted"
    )
    said = words(text)
    assert "All 1 rules passed that could be judged. That makes the model a candidate" in said
    assert "not worse than champion Not judged: few groups. A reviewer has to weigh it." in said
    assert "not worse than champion – not judged – – Not judged: few groups." in said
    assert "Not judged: few groups." in said.partition("Against the champion")[2]


def test_a_champion_of_another_input_has_no_figures():
    text = render_against(Comparison("tiny/1", "tiny/1 was made for another input (windows)."))
    assert "tiny/1 was made for another input (windows)." in words(text)
    assert "This model" not in words(text)


def test_groups_that_are_no_patients_are_called_groups():
    findings = replace(make_findings(groups_from="near_duplicates"), patient_metrics={})
    said = words(report.render(findings))
    assert "The source names no patients" in said
    assert "n = 8 groups" in said
    assert "Metrics of the patients" not in said


def test_an_empty_test_split_can_be_told():
    findings = make_findings()
    undefined = dict.fromkeys(findings.metrics, Estimate(NAN, NAN, NAN))
    about = {**findings.about, "groups": 0, "slices": 0}
    bare = replace(
        findings,
        metrics=undefined,
        about=about,
        populations=(),
        explanations=(),
        warnings=(),
        lineage={},
        training={},
    )
    said = words(report.render(bare))
    assert "Macro-F1 undefined no interval n = 0 patients" in said
    assert "Validation found nothing to warn of" in said
    assert "The inputs carry no record" in said


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.021, -0.03, 0.07), "+0.02 (−0.03 to +0.07)"),
        (Estimate(0.0, 0.0, 0.0), "+0.00 (+0.00 to +0.00)"),
        (Estimate(-0.1, NAN, NAN), "−0.10 (no interval)"),
        (Estimate(NAN, NAN, NAN), "undefined"),
    ],
)
def test_differences_in_words(estimate, shown):
    assert report_page.say_difference(estimate) == shown


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.712, 0.6, 0.8), "0.71 (0.60–0.80)"),
        (Estimate(0.712, NAN, NAN), "0.71 (no interval)"),
        (Estimate(NAN, NAN, NAN), "undefined"),
    ],
)
def test_intervals_in_words(estimate, shown):
    assert report_page.say_interval(estimate) == shown
