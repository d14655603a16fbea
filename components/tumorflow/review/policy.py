"""The policy: facts in, a refusal or none out. Nothing here knows of a database or a request.

Whoever reads a rule's name in a refusal, in the audit or in docs/review.md finds it here.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""Of requests: they change nothing."""
CHAMPION = "champion"
ENGINEER, PIPELINE, REVIEWER, VIEWER = "engineer", "pipeline", "reviewer", "viewer"
ROLES = (ENGINEER, PIPELINE, REVIEWER, VIEWER)
WRITERS = (ENGINEER, PIPELINE, REVIEWER)

APPROVE, REJECT, ROLL_BACK = "review.approve", "review.reject", "review.rollback"
ACTS = (APPROVE, REJECT, ROLL_BACK)
"""Tags of a model version that are acts: a reviewer sets one to the reason."""
REASON = "review.reason"
"""The tag that holds the reason for an alias that its author sets next."""
REASON_BY = "review.reason_by"
STATUS, BY, AT, WHY = "review.status", "review.by", "review.at", "review.why"
"""What the server writes about the last decision on a version."""
REVIEW, TUMORFLOW = "review.", "tumorflow."
EVIDENCE_HASH = "tumorflow.evidence_hash"
LONGEST_REASON = 1000
"""Characters."""
_LINES = "\t\n\r"
_HANGUL_FILLERS = str.maketrans("", "", "\u115f\u1160")  # letters that show nothing
_LOOKALIKES = str.maketrans("01l", "oii")


@dataclass(frozen=True)
class Refusal:
    """Why something is not done: the rule's name, and the sentence that a person reads."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"Refused by the rule '{self.rule}'. {self.message}"


@dataclass(frozen=True)
class Promotion:
    """All that decides whether a version may become champion."""

    act: Literal["approved", "rolled_back"]
    actor: str
    roles: Collection[str]
    reason: str
    model: str
    version: str
    champion: str
    """The present champion's version; empty: there is none."""
    former_champions: Collection[str]
    four_eyes: bool
    creators: Collection[str]
    """Accounts that made the version or a run that it comes from."""
    registered_hash: str
    """Of the evidence, as the audit has it from the registration; empty: it had none."""
    gate: str
    """The decision in the evidence."""
    differences: Sequence[str]
    """Between the evidence as registered and as it is now."""

    @property
    def name(self) -> str:
        """The version as NAME/VERSION."""
        return f"{self.model}/{self.version}"


def judge_promotion(facts: Promotion) -> Refusal | None:
    """Returns the first rule that keeps the version from becoming champion; None: it may."""
    rules = (_by_a_reviewer, _not_champion, _was_champion, _four_eyes, _registered, _unchanged, _accepted)
    return next((refusal for rule in rules if (refusal := rule(facts))), None)


def _by_a_reviewer(facts: Promotion) -> Refusal | None:
    return judge_act(facts.actor, facts.roles, facts.reason)


def _not_champion(facts: Promotion) -> Refusal | None:
    if facts.version != facts.champion:
        return None
    return Refusal("already_champion", f"{facts.name} is the champion already. {_former(facts)}")


def _was_champion(facts: Promotion) -> Refusal | None:
    if facts.act != "rolled_back" or facts.version in facts.former_champions:
        return None
    return Refusal(
        "former_champion",
        f"A rollback goes back to a version that was champion. Received: {facts.name}. {_former(facts)}",
    )


def _four_eyes(facts: Promotion) -> Refusal | None:
    if not facts.four_eyes or (facts.creators and facts.actor not in facts.creators):
        return None
    if facts.creators:
        return Refusal(
            "four_eyes",
            f"Nobody decides on a model of their own. Received: {facts.actor}, who made {facts.name}. "
            "Ask another reviewer.",
        )
    return Refusal(
        "four_eyes",
        f"The account that made a version must be known. Received: {facts.name}, whose maker is not "
        "recorded, since it was registered without this server. Register it anew.",
    )


def _registered(facts: Promotion) -> Refusal | None:
    if facts.registered_hash:
        return None
    return Refusal(
        "evidence_registered",
        f"A champion has evidence that was registered with it. Received: {facts.name}, which was created "
        f"without the tag {EVIDENCE_HASH}. Register it by the pipeline.",
    )


def _unchanged(facts: Promotion) -> Refusal | None:
    if not facts.differences:
        return None
    return Refusal(
        "evidence_unchanged",
        f"The evidence must be as it was registered. Received: {facts.name}, where "
        f"{_listed(facts.differences)}. Register the model anew.",
    )


def _accepted(facts: Promotion) -> Refusal | None:
    if facts.gate == "accepted":
        return None
    return Refusal(
        "gate_passed",
        f"The gate must have accepted a champion. Received: {facts.name}, which was "
        f"{facts.gate or 'never judged'}. Train a better one.",
    )


def judge_act(actor: str, roles: Collection[str], reason: str) -> Refusal | None:
    """Returns why an account may not decide at all, or not in these words; None: it may."""
    if REVIEWER not in roles:
        held = ", ".join(sorted(roles)) or "no role"
        return Refusal(
            "reviewer_decides",
            f"Only an account with the role '{REVIEWER}' decides. Received: {actor or 'no account'} with "
            f"{held}. Ask a reviewer.",
        )
    shown = unicodedata.normalize("NFKC", reason).translate(_HANGUL_FILLERS)
    if not any(character.isalnum() for character in shown):
        return Refusal(
            "reason_given",
            f"A decision has a reason. Received: none. Set the tag {REASON} to yours before the alias, or "
            f"decide by the tag {APPROVE}, whose value is the reason.",
        )
    if len(reason) > LONGEST_REASON:
        return Refusal(
            "reason_given",
            f"A reason has at most {LONGEST_REASON} characters. Received: {len(reason)}. Shorten it.",
        )
    if any(unicodedata.category(each) in ("Cc", "Cs") and each not in _LINES for each in reason):
        return Refusal(
            "reason_given",
            "A reason is text. Received: one with control characters. Write it without.",
        )
    return None


def looks_like_champion(alias: str) -> bool:
    """Returns whether an alias is `champion`, or could be taken for it, as other alphabets' letters can."""
    folded = unicodedata.normalize("NFKC", alias).casefold().strip(" -_.")
    return not folded.isascii() or folded.translate(_LOOKALIKES).replace("rn", "m") == CHAMPION


def judge_alias_name(alias: str) -> Refusal | None:
    """Returns why a name may not be an alias: it could be taken for `champion`."""
    if alias != CHAMPION and looks_like_champion(alias):
        return Refusal(
            "one_champion",
            f"Only '{CHAMPION}' itself is called so, and an alias has ASCII letters, since others look alike."
            f" Received: '{alias}'. Choose another name.",
        )
    return None


def judge_tag(key: str) -> Refusal | None:
    """Returns why a version's tag may be neither set nor changed after its creation; None: it may."""
    folded = unicodedata.normalize("NFKC", key).casefold().strip()
    if folded.startswith(TUMORFLOW):
        return Refusal(
            "version_sealed",
            f"Tags '{TUMORFLOW}…' are set when a version is created, and stay. Received: '{key}'. "
            "Register the model anew.",
        )
    prefix, dot, _ = folded.partition(".")
    if folded.startswith(REVIEW) or (dot and not prefix.isascii()):  # other alphabets' letters look alike
        return Refusal(
            "review_tags",
            f"Tags '{REVIEW}…' are the reviewers' and the server's. Received: '{key}'. A reviewer sets "
            f"{', '.join((*ACTS, REASON))}.",
        )
    return None


def _former(facts: Promotion) -> str:
    known = ", ".join(sorted(set(facts.former_champions) - {facts.champion}, key=int))
    return f"Former champions: {known}." if known else "There was no other champion before."


def _listed(differences: Sequence[str]) -> str:
    shown = "; ".join(differences[:3])
    return shown if len(differences) <= 3 else f"{shown}; and {len(differences) - 3} more"
