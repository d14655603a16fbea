"""The chain of entries: whatever is done to it, it shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.review.agreement import compare_champions, compare_copies, compare_evidence
from tumorflow.review.audit import FIRST, Entry, Event, chain, champions, find_faults, from_json, hash_entry
from tumorflow.review.delivery import serialize

words = st.text(max_size=12)
events = st.builds(
    Event,
    action=st.sampled_from(["registered", "approved", "rejected", "rolled_back", "role_given"]),
    actor=words,
    model=words,
    version=words,
    reason=words,
    evidence_hash=words,
    previous_champion=words,
    champion=words,
)


def chained(*given_events: Event) -> list[Entry]:
    entries: list[Entry] = []
    for event in given_events:
        entries.append(chain(event, "2026-11-24T09:30:00.000Z", entries[-1] if entries else None))
    return entries


chains = st.lists(events, min_size=1, max_size=6).map(lambda listed: chained(*listed))


def test_an_entry_is_hashed_as_it_always_was():
    entry = chain(
        Event("approved", "rita", "lung", "2", "good", "ab", "1", "2"), "2026-11-24T09:30:00.000Z", None
    )
    assert entry.sequence == 1
    assert entry.previous_hash == "0" * 64
    assert entry.entry_hash == "dbf6f7edee0cc797b379e7da5502f9f5d1372e618be808e7ed9b1deaa6c5e5c6"


@given(chains)
def test_a_chain_is_whole_and_survives_json(entries):
    assert find_faults(entries) == []
    assert [from_json(entry.as_json()) for entry in entries] == entries
    half = len(entries) // 2
    before = (half, entries[half - 1].entry_hash) if half else (0, FIRST)
    assert find_faults(entries[half:], after=before) == []


@given(chains, st.data())
def test_any_changed_field_is_found(entries, data):
    place = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(
        st.sampled_from(
            ["actor", "model", "version", "reason", "evidence_hash", "previous_champion", "champion"]
        )
    )
    entry = entries[place]
    value = data.draw(words.filter(lambda word: word != getattr(entry.event, name)))
    entries[place] = replace(entry, event=replace(entry.event, **{name: value}))
    assert find_faults(entries) == [f"Entry {entry.sequence} was changed after it was written."]


@given(chains, st.data())
def test_a_changed_time_number_or_hash_is_found(entries, data):
    place = data.draw(st.integers(0, len(entries) - 1))
    change = data.draw(
        st.sampled_from(
            [{"at": "2020"}, {"sequence": 99}, {"previous_hash": "f" * 64}, {"entry_hash": "e" * 64}]
        )
    )
    entries[place] = replace(entries[place], **change)
    assert find_faults(entries)


@given(st.lists(events, min_size=2, max_size=6), st.data())
def test_a_removed_entry_is_found_but_for_the_last(listed, data):
    entries = chained(*listed)
    gone = data.draw(st.integers(0, len(entries) - 2))
    del entries[gone]
    assert find_faults(entries)[0] == f"Entry {gone + 1} should come here. Received: entry {gone + 2}."


@given(st.lists(events, min_size=2, max_size=6), st.data())
def test_two_entries_in_each_others_place_are_found(listed, data):
    entries = chained(*listed)
    one, other = sorted(data.draw(st.sets(st.integers(0, len(entries) - 1), min_size=2, max_size=2)))
    entries[one], entries[other] = entries[other], entries[one]
    assert find_faults(entries)


@given(chains, st.data())
def test_an_entry_rehashed_after_its_change_no_longer_bears_the_next(entries, data):
    place = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[place]
    event = replace(entry.event, reason=entry.event.reason + "!")
    digest = hash_entry(entry.sequence, entry.at, event, entry.previous_hash)
    entries[place] = replace(entry, event=event, entry_hash=digest)
    last = place == len(entries) - 1
    assert find_faults(entries) == (
        [] if last else [f"Entry {entry.sequence + 1} does not follow the entry before it."]
    )


def approved(version: str, previous: str = "", model: str = "lung") -> Event:
    return Event("approved", "rita", model, version, "good", f"hash{version}", previous, version)


def copies_of(entries: list[Entry]) -> dict[int, bytes]:
    return {entry.sequence: serialize(entry) for entry in entries}


def test_a_cut_or_rewritten_chain_differs_from_its_copies():
    entries = chained(approved("1"), approved("2", "1"), approved("3", "2"))
    copies = copies_of(entries)
    assert compare_copies(entries, copies) == []
    assert compare_copies(entries[:2], copies) == ["Entry 3 was exported, and is not in the audit any more."]
    rewritten = chained(approved("1"), approved("3", "1"), approved("2", "3"))
    assert find_faults(rewritten) == []
    assert compare_copies(rewritten, copies) == [
        "Entry 2 is not as it was exported.",
        "Entry 3 is not as it was exported.",
    ]


def test_the_newest_entries_may_have_no_copy_yet_and_others_must():
    entries = chained(approved("1"), approved("2", "1"), approved("3", "2"))
    copies = copies_of(entries)
    del copies[3]
    assert compare_copies(entries, copies) == []
    del copies[1]
    assert compare_copies(entries, copies) == ["Entry 1 has no exported copy, though a later one has."]
    assert compare_copies(entries, {}) == []
    assert compare_copies(entries, {1: b"nonsense"}) == ["Entry 1 is not as it was exported."]


def test_the_champion_is_the_one_decided_on_last():
    entries = chained(
        approved("1"), approved("2", "1"), Event("rejected", "rita", "liver", "4", "poor", "", "3", "3")
    )
    assert champions(entries) == {"lung": "2", "liver": "3"}
    assert compare_champions(entries, {"lung": "2", "liver": "3"}) == []
    assert compare_champions(entries, {"lung": "1", "bone": "7", "liver": "3"}) == [
        "The champion of 'bone' is version 7 in the registry, and none by the audit.",
        "The champion of 'lung' is version 1 in the registry, and version 2 by the audit.",
    ]


def test_a_withdrawn_champion_is_none():
    entries = chained(approved("1"), Event("rejected", "rita", "lung", "1", "poor", "", "1", ""))
    assert compare_champions(entries, {}) == []


@pytest.mark.parametrize("tag", ["", "other"])
def test_a_version_with_another_evidence_hash_than_it_was_registered_with_is_named(tag):
    entries = chained(Event("registered", "pipeline", "lung", "1", "", "abc"))
    assert compare_evidence(entries, {("lung", "1"): "abc"}) == []
    assert compare_evidence(entries, {("lung", "1"): tag}) == [
        f"Version 1 of 'lung' has evidence {tag or 'none'} in the registry, and was registered with abc."
    ]
    assert compare_evidence(entries, {("lung", "2"): ""}) == []
    assert len(compare_evidence(entries, {("lung", "2"): "abc"})) == 1
