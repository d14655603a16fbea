from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.errors import ParameterError
from tumorflow.params import Parameters, TrainParams, merge, parse_section, read_parameters

COMMITTED = Path(__file__).parents[1] / "params.yaml"


def test_the_committed_file_states_the_defaults():
    assert read_parameters(COMMITTED) == Parameters()


def test_classes_and_seed_reach_every_section():
    params = read_parameters(None, overrides=["seed=11", "classes=[a, b]"])
    assert {params.section(name).seed for name in ("ingest", "validate", "train", "export")} == {11}
    assert params.section("evaluate").classes == ("a", "b")


def test_retraining_looks_at_the_model_that_is_exported():
    params = read_parameters(COMMITTED, overrides=["export.registered_model=other"])
    assert params.retrain.registered_model == "other"
    params = read_parameters(None, overrides=["export.registered_model=a", "retrain.registered_model=b"])
    assert (params.export.registered_model, params.retrain.registered_model) == ("a", "b")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=0", r"'train\.epochs'.*greater than or equal to 1.*Received: 0"),
        ("train.epochs=many", r"'train\.epochs'.*integer.*Received: 'many'"),
        ("train.epohcs=3", r"'train\.epohcs': the key is unknown"),
        ("trian.epochs=3", r"'trian': the key is unknown"),
        ("train.dropout=.nan", r"'train\.dropout'"),
        ("classes=[only]", "at least two class names"),
        ("classes=[a, a]", "at least two class names"),
        ("train=5", r"'train'"),
        ("preprocess.windows=[]", "one window"),
        ("train.epochs=[", "The value of an override is YAML"),
        ("ingest.labels=../labels.csv", "a path below the source"),
        ("ingest.labels=/labels.csv", "a path below the source"),
        ("epochs", "An override reads SECTION.KEY=VALUE"),
    ],
)
def test_an_impossible_value_names_key_rule_and_value(override, expected):
    with pytest.raises(ParameterError, match=expected):
        read_parameters(None, overrides=[override])


def test_layers_are_laid_in_order(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("train: {epochs: 3, batch_size: 4}\n")
    params = read_parameters(file, overrides=["train.epochs=5"])
    assert (params.train.epochs, params.train.batch_size) == (5, 4)


@pytest.mark.parametrize("content", [b"[a", b"- a list\n", b"just text", b"\xff\xfe\x00\x81"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParameterError):
        read_parameters(file)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ParameterError, match="article"):
        read_parameters(None, presets=["nothing"])


@pytest.mark.parametrize("preset", ["article", "iqoth_nccd"])
def test_every_preset_is_valid(preset):
    assert isinstance(read_parameters(COMMITTED, presets=[preset]), Parameters)


def test_a_section_survives_its_journey_as_json():
    section = read_parameters(None, overrides=["train.epochs=9"]).train
    assert parse_section(TrainParams, section.model_dump_json()) == section
    with pytest.raises(ParameterError, match="unknown"):
        parse_section(TrainParams, '{"nothing": 1}')


trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


@given(trees, trees)
def test_merging_is_idempotent_and_mutates_nothing(base, layer):
    before = repr(base), repr(layer)
    merged = merge(base, layer)
    assert merge(merged, layer) == merged
    assert (repr(base), repr(layer)) == before
