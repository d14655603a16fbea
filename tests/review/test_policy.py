"""The rules themselves, by values made by hand and by what must hold for all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.evidence import HASH_TAG
from tumorflow.review.policy import (
    ACTS,
    AT,
    BY,
    EVIDENCE_HASH,
    REASON,
    REASON_BY,
    ROLES,
    STATUS,
    WHY,
    Promotion,
    judge_act,
    judge_alias_name,
    judge_promotion,
    judge_tag,
    looks_like_champion,
)

GOOD = Promotion(
    act="approved",
    actor="rita",
    roles=("reviewer",),
    reason="recall of malignant is .84",
    model="lung",
    version="4",
    champion="3",
    former_champions=("2", "3"),
    four_eyes=True,
    creators=("pipeline", "ann"),
    registered_hash="ab" * 32,
    gate="accepted",
    differences=(),
)
BACK = replace(GOOD, act="rolled_back", version="2")

# what keeps each rule comes often, so that all of them together do, too
PROMOTIONS = st.builds(
    Promotion,
    act=st.sampled_from(["approved", "rolled_back"]),
    actor=st.sampled_from(["rita", "rob", "ann", "admin", ""]),
    roles=st.sets(st.sampled_from([*ROLES, "owner", "Reviewer"])) | st.just({"reviewer"}),
    reason=st.just("good") | st.text(st.characters(codec="ascii"), max_size=3),
    model=st.just("lung"),
    version=st.sampled_from(["1", "2", "3"]),
    champion=st.sampled_from(["", "1", "2", "3"]),
    former_champions=st.sets(st.sampled_from(["1", "2", "3"])),
    four_eyes=st.booleans(),
    creators=st.sets(st.sampled_from(["rita", "ann", "pipeline"])),
    registered_hash=st.sampled_from(["ab" * 32, "ab" * 32, ""]),
    gate=st.just("accepted") | st.sampled_from(["", "rejected", "Accepted"]),
    differences=st.just([]) | st.lists(st.just("evidence/report.html was changed"), max_size=4),
)


LINES = str.maketrans("\t\n\r", "   ")


def rule_of(facts: Promotion) -> str:
    refusal = judge_promotion(facts)
    return refusal.rule if refusal else ""


@pytest.mark.parametrize(
    "facts",
    [
        GOOD,
        BACK,
        replace(GOOD, champion="", former_champions=()),
        replace(GOOD, roles=("engineer", "reviewer")),
        replace(GOOD, four_eyes=False, creators=("rita",)),
        replace(GOOD, four_eyes=False, creators=()),
        replace(GOOD, version="2"),  # approved anew, not gone back to
    ],
)
def test_a_promotion_that_keeps_every_rule_is_made(facts):
    assert judge_promotion(facts) is None


@pytest.mark.parametrize(
    ("facts", "rule", "says"),
    [
        (replace(GOOD, roles=()), "reviewer_decides", "rita with no role"),
        (replace(GOOD, actor="admin", roles=()), "reviewer_decides", "admin with no role"),
        (replace(GOOD, roles=("pipeline", "engineer")), "reviewer_decides", "rita with engineer, pipeline"),
        (replace(GOOD, actor="", roles=()), "reviewer_decides", "no account"),
        (replace(GOOD, reason=""), "reason_given", "Received: none"),
        (replace(GOOD, reason="x" * 1001), "reason_given", "Received: 1001"),
        (replace(GOOD, version="3"), "already_champion", "Former champions: 2."),
        (replace(BACK, former_champions=("3",)), "former_champion", "There was no other champion before."),
        (replace(BACK, version="3"), "already_champion", "lung/3"),
        (replace(GOOD, creators=("pipeline", "rita")), "four_eyes", "rita, who made lung/4"),
        (replace(BACK, creators=("rita",)), "four_eyes", "rita, who made lung/2"),
        (replace(GOOD, creators=()), "four_eyes", "not recorded"),
        (replace(GOOD, registered_hash=""), "evidence_registered", "tumorflow.evidence_hash"),
        (replace(GOOD, differences=("a.txt was changed",)), "evidence_unchanged", "where a.txt was changed."),
        (replace(GOOD, differences=list("abcde")), "evidence_unchanged", "a; b; c; and 2 more"),
        (replace(GOOD, gate="rejected"), "gate_passed", "lung/4, which was rejected"),
        (replace(GOOD, gate=""), "gate_passed", "never judged"),
        (replace(GOOD, gate="ACCEPTED"), "gate_passed", "ACCEPTED"),
    ],
)
def test_each_rule_refuses_and_says_why(facts, rule, says):
    refusal = judge_promotion(facts)
    assert refusal is not None
    assert refusal.rule == rule
    assert says in refusal.message
    assert str(refusal).startswith(f"Refused by the rule '{rule}'. ")


@given(PROMOTIONS)
def test_a_promotion_is_made_exactly_when_every_rule_is_kept(facts):
    kept = (
        "reviewer" in facts.roles,
        any(character.isalnum() for character in facts.reason)
        and facts.reason.translate(LINES).isprintable(),
        facts.gate == "accepted",
        bool(facts.registered_hash),
        not facts.differences,
        facts.version != facts.champion,
        facts.act == "approved" or facts.version in facts.former_champions,
        not facts.four_eyes or (bool(facts.creators) and facts.actor not in facts.creators),
    )
    assert (judge_promotion(facts) is None) == all(kept)


@given(PROMOTIONS)
def test_without_the_role_nothing_helps(facts):
    facts = replace(facts, roles=set(facts.roles) - {"reviewer"})
    assert rule_of(facts) == "reviewer_decides"


@given(PROMOTIONS, st.sets(st.sampled_from(ROLES)))
def test_further_roles_and_a_lifted_rule_never_refuse_more(facts, roles):
    if judge_promotion(facts) is None:
        assert judge_promotion(replace(facts, roles={*facts.roles, *roles})) is None
        assert judge_promotion(replace(facts, four_eyes=False)) is None


BLANK = " \t\n\r\x0b\u00a0\u2003\u3000"
INVISIBLE = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\u2066\u034f\u180e"  # zero-width, soft hyphen, direction
    "\u3164\u115f\u1160\uffa0\u2800\ufe0f\U000e0041"  # letters without ink, blank Braille, selectors, tags
)
CONTROL = "\x00\x07\x1b\x7f\x85\x9b"


@given(st.text(st.sampled_from(BLANK + INVISIBLE + CONTROL + "-._*…!?"), max_size=20))
def test_a_reason_that_shows_no_word_is_none(reason):
    refusal = judge_act("rita", ("reviewer",), reason)
    assert refusal is not None
    assert refusal.rule == "reason_given"


@pytest.mark.parametrize("character", [*CONTROL, "\ud800"])
def test_a_reason_holds_nothing_that_a_database_or_terminal_takes_for_more_than_text(character):
    refusal = judge_act("rita", ("reviewer",), f"good {character} enough")
    assert refusal is not None
    assert refusal.rule == "reason_given"
    assert character not in refusal.message


@pytest.mark.parametrize(
    "reason",
    [
        "ok",
        "Läsionen ≥ 6 mm: 0.84",
        "十分に良い",
        "جيد بما يكفي",
        "first line\nsecond\tline\r\n",
        "x" * 1000,
        "می‌شود",
    ],
)
def test_a_reason_is_in_any_language(reason):
    assert judge_act("rita", ("reviewer",), reason) is None


@pytest.mark.parametrize(
    "alias",
    [
        "Champion", "CHAMPION", "ｃhampion", "champion_", "-champion", "champion.", "_-champion", " champion",
        "\u0441hampion", "ch\u0430mpion", "champi\u03bfn", "cham\u200bpion", "champ\u0131on", "champi\u0585n",
        "champi0n", "champ1on", "champlon", "charnpion", "CHAMPI0N",
    ],
)  # fmt: skip
def test_an_alias_that_could_be_taken_for_champion_is_refused(alias):
    assert looks_like_champion(alias)
    refusal = judge_alias_name(alias)
    assert refusal is not None
    assert refusal.rule == "one_champion"


@pytest.mark.parametrize("alias", ["candidate", "challenger", "shadow", "former-champion", "v2", "companion"])
def test_another_alias_is_whoevers_it_is(alias):
    assert not looks_like_champion(alias)
    assert judge_alias_name(alias) is None


def test_the_alias_itself_is_judged_as_a_decision():
    assert looks_like_champion("champion")
    assert judge_alias_name("champion") is None


@pytest.mark.parametrize("key", [STATUS, BY, AT, WHY, REASON, REASON_BY, *ACTS, "review.else", "REVIEW.By"])
@pytest.mark.parametrize("around", ["{}", " {}", "{} "])
def test_tags_that_tell_of_a_review_are_not_for_others(key, around):
    refusal = judge_tag(around.format(key))
    assert refusal is not None
    assert refusal.rule == "review_tags"


@pytest.mark.parametrize(
    "key",
    ["r\u0435view.by", "revi\u0435w.status", "\u0433eview.why", "tum\u043erflow.decision", "ｒeview.by"],
)
def test_tags_that_look_like_them_are_not_either(key):
    refusal = judge_tag(key)
    assert refusal is not None
    assert refusal.rule in ("review_tags", "version_sealed")


@pytest.mark.parametrize("key", [HASH_TAG, EVIDENCE_HASH, "tumorflow.decision", "Tumorflow.Anything"])
def test_tags_of_the_registration_stay(key):
    refusal = judge_tag(key)
    assert refusal is not None
    assert refusal.rule == "version_sealed"


@pytest.mark.parametrize("key", ["note", "review", "reviewed", "tumorflow", "größe", "site.müller", "a.b"])
def test_other_tags_are_free(key):
    assert judge_tag(key) is None


@given(st.text(min_size=1))
def test_judging_a_name_never_fails(name):
    judge_tag(name)
    assert (judge_alias_name(name) is None) == (name == "champion" or not looks_like_champion(name))
