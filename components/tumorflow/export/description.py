"""What a reviewer reads on the page of a model version in MLflow: verdict, figures, pictures, how to decide.

Markdown as MLflow's page shows it: its sanitiser keeps tables, links and images, and no sizes or styles.
Every address is relative to that page, so that it opens under any host and prefix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIMIT = 5000
"""Characters that MLflow's table of versions has room for."""
RESEARCH = "**For research, not for clinical decisions.**"
NAMED = {
    "macro_f1": "Macro-F1",
    "macro_auc": "Macro ROC AUC",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "calibration_error": "Calibration error (ECE)",
}
KEY_METRICS = ("macro_f1", "macro_auc", "balanced_accuracy", "calibration_error")
MOST_ROWS = 6
"""Of classes, and of rules; the report has all."""
_SPECIAL = str.maketrans({character: f"&#{ord(character)};" for character in "&<>|[]*`\\"})


@dataclass(frozen=True)
class Facts:
    """What the description is written from."""

    name: str
    """Of the registered model."""
    classes: Sequence[str]
    decision: Mapping[str, Any]
    """decision.json of the release."""
    metrics: Mapping[str, Any]
    """metrics.json of the evaluation."""
    tags: Mapping[str, str]
    """Those of the version: what it was made from."""
    picture: str = ""
    """Path of the overview among the run's artifacts; empty: there is none."""


def describe(facts: Facts, experiment_id: str, run_id: str) -> str:
    """Returns the description of a version that a run made: at most `LIMIT` characters, verdict first."""
    run = f"#/experiments/{experiment_id}/runs/{run_id}"
    needed = [
        tell_verdict(facts),
        f"### [Read the report]({run}/artifacts/evidence/evaluation/report.html)"
        f" · [TFLite variants]({run}/artifacts/evidence/release/variants.html)",
    ]
    end = [tell_how_to_decide(facts), RESEARCH]
    # in the order of the page, and beside each how soon it goes where there is no room for all
    wanted = [
        (4, tell_rules(facts.decision)),
        (3, tell_metrics(facts)),
        (2, tell_champion(facts)),
        (0, show_picture(facts.picture, run_id)),
        (1, tell_lineage(facts.tags, run)),
    ]
    kept = [item for item in wanted if item[1]]
    while True:
        text = "\n\n".join([*needed, *(section for _, section in kept), *end])
        if len(text) <= LIMIT or not kept:
            return text[:LIMIT]
        kept.remove(min(kept))


def tell_verdict(facts: Facts) -> str:
    """Returns the gate's verdict as a sentence."""
    rules = facts.decision["rules"]
    failed = sum(not rule["passed"] for rule in rules)
    unjudged = len(facts.decision["not_judged"])
    count = f"all {len(rules)} rules passed" if not failed else f"{failed} of {len(rules)} rules failed"
    more = f", {unjudged} without a verdict" if unjudged else ""
    what = ", ".join(plain(name, 40) for name in facts.classes[:MOST_ROWS])
    what += f" and {len(facts.classes) - MOST_ROWS} more" if len(facts.classes) > MOST_ROWS else ""
    verdict = "**Accepted" if facts.decision["decision"] == "accepted" else "**Rejected"
    return f"{verdict} by the gate**: {count}{more}. CT slices → {what}."


def tell_rules(decision: Mapping[str, Any]) -> str:
    """Returns the rules that failed or have no verdict, with what they say."""
    failed = [rule for rule in decision["rules"] if not rule["passed"]]
    told = [f"- **failed** {plain(rule['name'], 60)}: {plain(rule['message'], 300)}" for rule in failed]
    told += [
        f"- **no verdict** {plain(rule['name'], 60)}: {plain(rule['message'], 300)}"
        for rule in decision["not_judged"]
    ]
    if len(told) > MOST_ROWS:
        told = [*told[:MOST_ROWS], f"- and {len(told) - MOST_ROWS} more, in the report"]
    return "\n".join(told)


def tell_metrics(facts: Facts) -> str:
    """Returns the key metrics with their intervals as a table; of many classes those recalled worst."""
    about = facts.metrics.get("about", {})
    recalls = [(f"recall_{name}", f"Recall of {plain(name, 40)}") for name in facts.classes]
    left_out = ""
    if len(recalls) > MOST_ROWS:
        recalls = sorted(recalls, key=lambda item: _value(facts.metrics.get(item[0])))[:MOST_ROWS]
        left_out = f" The {MOST_ROWS} classes recalled worst, of {len(facts.classes)}."
    named = [(name, NAMED[name]) for name in KEY_METRICS] + recalls
    rows = [[told, say(facts.metrics[name])] for name, told in named if name in facts.metrics]
    if not rows:
        return ""
    level = f"{about.get('confidence_level', 0.95):.0%}"
    origin = (
        f"{about.get('slices', '?')} test slices in {about.get('groups', '?')} groups; intervals by "
        f"bootstrap over each {about.get('bootstrap_unit', 'group')}.{left_out}"
    )
    return f"{draw_table(['Metric', f'Value ({level} interval)'], rows)}\n\n{origin}"


def tell_champion(facts: Facts) -> str:
    """Returns the comparison with the champion as a table, or that there is none."""
    champion = facts.decision["champion"]
    if not champion:
        return "**Champion:** this version was compared with none."
    against = facts.metrics.get("about", {}).get("champion", {})
    sample, groups = against.get("unseen"), "that it never saw"
    if against.get("not_judged") or not sample:
        sample, groups = against.get("all"), "of the test set, for information only"
    if not sample:
        return f"**Champion:** {plain(champion, 80)}; the two could not be compared."
    headings = ["Metric", "This version", "Champion", "Difference (interval)"]
    rows = [
        [NAMED[name], say_value(paired["model"]), say_value(paired["champion"]), say(paired["difference"])]
        for name, paired in sample["metrics"].items()
        if name in NAMED
    ]
    told = f"**Against the champion {plain(champion, 80)}**, on {sample['groups']} groups {groups}:"
    return f"{told}\n\n{draw_table(headings, rows)}"


def show_picture(path: str, run_id: str) -> str:
    """Returns the overview as an image; nothing where there is none."""
    told = "Confusion matrix, ROC curves, reliability and Grad-CAM"
    return f"![{told}](get-artifact?path={path}&run_uuid={run_id})" if path else ""


def tell_lineage(tags: Mapping[str, str], run: str) -> str:
    """Returns what the version was made from."""
    named = {
        "data": "tumorflow.data_hash",
        "split": "tumorflow.split_hash",
        "commit": "tumorflow.git_commit",
        "parameters": "tumorflow.params_hash",
        "seed": "tumorflow.seed",
        "image": "tumorflow.image",
    }
    told = [f"{name} `{plain(tags[tag], 90)}`" for name, tag in named.items() if tags.get(tag)]
    return f"**Made from** {', '.join(told)}; [the run]({run})."


def tell_how_to_decide(facts: Facts) -> str:
    """Returns how a reviewer decides."""
    if facts.decision["decision"] != "accepted":
        return "**To decide:** the gate rejected this version; it cannot become champion."
    return (
        "**To decide:** add the tag `review.approve` or `review.reject` below, with your reason as its "
        f"value; or `tumorflow review approve {plain(facts.name, 100)} VERSION --reason …`."
    )


def draw_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; MLflow's page puts no room between columns by itself."""
    lines = [f"| {'&emsp; | '.join(cells)} |" for cells in (headings, *rows)]
    return "\n".join([lines[0], f"|{' --- |' * len(headings)}", *lines[1:]])


def say(estimate: Mapping[str, float | None]) -> str:
    """Returns a figure with its interval."""
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return say_value(estimate)
    return f"{say_value(estimate)} ({low:.3f} to {high:.3f})"


def say_value(estimate: Mapping[str, float | None]) -> str:
    """Returns a figure."""
    value = estimate.get("value")
    return "undefined" if value is None else f"{value:.3f}"


def plain(text: str, most: int) -> str:
    """Returns text that Markdown leaves as it is, of at most `most` characters as they are read."""
    line = " ".join(str(text).split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").translate(_SPECIAL)


def _value(estimate: Mapping[str, float | None] | None) -> float:
    """Returns a figure to sort by; what is undefined comes first."""
    value = estimate.get("value") if estimate else None
    return -1.0 if value is None else value
