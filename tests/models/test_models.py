"""Building networks: decoders and backbones, standardisation, bands, pretrained weights and initialisation."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from satseg.errors import BackboneWeightsError, ConfigError, ModelError, ModelPairError
from satseg.models import build_model, freeze_backbone, init_from
from satseg.models.catalogue import BACKBONES, INCOMPATIBLE, MODELS, may_leave_layers_unused, table
from satseg.spec import DatasetSpec, InputSpec


def spec(bands: int = 3, classes: int = 4, **options: Any) -> DatasetSpec:
    names = tuple(f"b{i}" for i in range(bands))
    numbers = {"mean": (0.3,) * bands, "std": (0.2,) * bands, "scale": 255.0, "dtype": "uint8"} | options
    return DatasetSpec(
        (InputSpec(names, **numbers),), tuple(f"c{i}" for i in range(classes)), tuple((i, i, i) for i in range(classes))
    )


def config(model: str = "fpn", backbone: str = "resnet18", weights: str = "none", adapt: Any = None) -> dict[str, Any]:
    options = {"encoder_name": f"tu-{backbone}", "encoder_weights": weights, "encoder_adapt": adapt}
    return {"_target_": MODELS[model], **options}


WIDER = (
    "convnext_base",
    "convnext_large",
)  # than convnext_tiny, whose gradients are checked; theirs would take a minute


def check_forward_and_backward(model: str, backbone: str, bands: int) -> None:
    network = build_model(config(model, backbone), spec(bands)).train()
    image = torch.randint(0, 256, (2, bands, 97, 70), dtype=torch.uint8)
    with torch.set_grad_enabled(backbone not in WIDER):
        logits = network(image)
    assert logits.shape == (2, 4, 97, 70) and logits.dtype == torch.float32
    if backbone not in WIDER:
        logits.square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in network.encoder.parameters() if p.grad is not None)
    assert torch.isfinite(network.eval()(image[:1])).all()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_accepts_any_image_size(model: str) -> None:
    check_forward_and_backward(model, "resnet18", 3)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "backbone"), [(m, b) for b in BACKBONES for m in MODELS])
def test_every_pair_of_model_and_backbone_works_or_raises_an_error(model: str, backbone: str) -> None:
    if (model, backbone) in INCOMPATIBLE:
        with pytest.raises(ModelPairError, match=f"model={model} does not work on backbone={backbone}"):
            build_model(config(model, backbone), spec())
    else:
        check_forward_and_backward(model, backbone, 6 if backbone == "resnet18" else 3)


def test_the_documentation_contains_the_table_of_models(root_dir: Path) -> None:
    assert table() in (root_dir / "docs/models.md").read_text(encoding="utf-8")


def test_raw_values_are_standardised_and_invalid_pixels_become_zero() -> None:
    network = build_model(config(), spec(2, scale=100.0, offset=-50.0, nodata=-9999.0, dtype="float32"))
    image = torch.tensor([[[[-50.0, 50.0, -9999.0, float("nan")]], [[0.0, 50.0, -9999.0, 3.0]]]])
    expected = torch.tensor(
        [[[(0.0 - 0.3) / 0.2, (1.0 - 0.3) / 0.2, 0, 0]], [[(0.5 - 0.3) / 0.2, (1 - 0.3) / 0.2, 0, 0]]]
    )
    assert torch.allclose(network.normaliser(image)[0], expected)
    given = network.normaliser(image, torch.tensor([[[False, True, False, False]]]))
    assert (given[..., 0] == 0).all() and torch.allclose(given[0, :, :, 1], expected[:, :, 1])


@pytest.mark.parametrize(
    ("dtype", "nodata", "valid"), [("int16", -9999.0, False), ("uint16", 0.0, True), ("uint8", 255.0, True)]
)
def test_nodata_in_a_single_band_invalidates_the_pixel_unless_the_value_is_plausible_data(dtype, nodata, valid) -> None:
    network = build_model(config(), spec(2, nodata=nodata, dtype=dtype))
    found = network.normaliser.valid(torch.tensor([[[[nodata, nodata, 7.0]], [[nodata, 7.0, 7.0]]]]))
    assert found.tolist() == [[[False, valid, True]]]


def test_16_bit_values_do_not_overflow_under_autocast() -> None:
    network = build_model(config(), spec(3, scale=65535.0, dtype="uint16"))
    with torch.autocast("cpu", torch.float16):
        standardised = network.normaliser(torch.full((1, 3, 4, 4), 65535, dtype=torch.int32))
    assert standardised.dtype == torch.float32 and torch.allclose(standardised, torch.tensor((1 - 0.3) / 0.2))


def test_a_wrong_number_of_bands_raises_an_error_that_lists_the_expected_ones() -> None:
    with pytest.raises(ModelError, match="bands b0, b1, b2"):
        build_model(config(), spec())(torch.zeros(1, 4, 32, 32))


def test_mean_and_std_default_to_those_of_the_backbone() -> None:
    network = build_model(config(backbone="tf_efficientnet_lite0"), spec(mean=None, std=None))
    assert network.spec.inputs[0].mean == (0.5, 0.5, 0.5) and network.spec.inputs[0].std == (0.5, 0.5, 0.5)


@pytest.mark.shared
@pytest.mark.parametrize("bands", [3, 7])
def test_weights_from_a_file_are_loaded_into_the_encoder(shared_dir: Path, bands: int) -> None:
    path = shared_dir / "weights" / "tf_efficientnet_lite0.safetensors"
    network = build_model(config("unet", "tf_efficientnet_lite0", str(path), "repeat"), spec(bands))
    given = load_file(path)
    own = {k.removeprefix("model."): v for k, v in network.encoder.state_dict().items()}
    same = [k for k in own if k in given and given[k].shape == own[k].shape]
    assert len(same) >= 0.95 * len(own)
    assert all(torch.equal(own[k], given[k]) for k in same)


@pytest.fixture(scope="module")
def rgb_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights for red, green and blue, as a stand-in for pretrained ones."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(
        {k: torch.rand_like(v.float()).to(v.dtype) for k, v in timm.create_model("resnet18").state_dict().items()}, path
    )
    return path


def first_layer(path: Path, bands: int, adapt: Any) -> torch.Tensor:
    network = build_model(config(weights=str(path), adapt=adapt), spec(bands))
    assert "encoder_adapt" not in network.config
    kernels: torch.Tensor = network.encoder.model.conv1.weight.detach()
    return kernels


def test_rgb_weights_are_adapted_to_other_bands_by_repeat_mean_names_or_random(rgb_file: Path) -> None:
    rgb = load_file(rgb_file)["conv1.weight"]
    mean = rgb.mean(1)
    repeated = first_layer(rgb_file, 5, "repeat")
    assert torch.allclose(repeated, rgb[:, [0, 1, 2, 0, 1]] * 3 / 5)
    assert torch.allclose(first_layer(rgb_file, 2, "mean"), torch.stack([mean, mean], 1) * 3 / 2)
    named = first_layer(rgb_file, 5, ["b3", "b1", "b0"])  # red, green and blue
    expected = torch.stack([rgb[:, 2], rgb[:, 1], mean, rgb[:, 0], mean], 1) * 3 / 5
    assert torch.allclose(named, expected)
    assert torch.allclose(first_layer(rgb_file, 3, ["b2", "b1", "b0"]), rgb.flip(1))
    assert torch.equal(first_layer(rgb_file, 3, None), rgb) and torch.equal(first_layer(rgb_file, 3, "mean"), rgb)
    random = first_layer(rgb_file, 5, "random")
    assert random.min() < 0 and 0 < random.std() < 0.1  # those in the file are all positive


def test_adapting_rgb_weights_to_other_bands_requires_a_valid_option(rgb_file: Path) -> None:
    for bands, adapt, message in (
        (5, None, r"backbone.adapt: the weights of resnet18 are for red, green and blue, but the images have 5 bands"),
        (1, None, r"have 1 bands: choose repeat, mean, random, or give the names of the red, green and blue bands"),
        (5, "median", r"backbone.adapt=median: choose repeat, mean, random"),
        (
            5,
            ["b0", "b1"],
            r"names of the red, green and blue bands; the images have b0, b1, b2, b3, b4",
        ),
        (5, ["b0", "b1", "B4"], r"expected the names of the red, green and blue bands"),
        (3, {"red": "b0"}, r"expected the names of the red, green and blue bands"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_model(config(weights=str(rgb_file), adapt=adapt), spec(bands))
    assert build_model(config(adapt=None), spec(5)).spec.in_channels == 5  # without weights no option is required


def test_weights_of_another_network_corrupt_files_and_pickles_raise_an_error(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    torch.save({"a": print}, tmp_path / "pickle.pth")
    for name, message in (
        ("other.safetensors", "belongs to another network"),
        ("broken.safetensors", "is corrupt"),
        ("pickle.pth", "more than tensors"),
        ("missing.pth", "does not exist"),
    ):
        with pytest.raises(BackboneWeightsError, match=message):
            build_model(config(weights=str(tmp_path / name)), spec())


def test_the_error_without_access_to_the_hub_names_both_alternatives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneWeightsError, match=r"backbone.weights=/path/to/resnet18.*backbone.weights=none"):
        build_model(config(weights="hub"), spec())


def test_weights_in_the_local_cache_of_the_hub_are_used_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {k: torch.rand_like(v.float()).to(v.dtype) for k, v in timm.create_model("resnet18").state_dict().items()}
    cached = tmp_path / "models--timm--resnet18.a1_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc")
    (cached / "snapshots/abc").mkdir(parents=True)
    save_file(given, cached / "snapshots/abc/model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    network = build_model(config(weights="hub"), spec())
    assert torch.equal(network.encoder.model.conv1.weight, given["conv1.weight"])


def test_a_frozen_backbone_has_no_gradients_and_constant_statistics() -> None:
    network = build_model(config(), spec()).train()
    freeze_backbone(network)
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    network.train()
    network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in network.encoder.state_dict().items())
    assert all(p.grad is None for p in network.encoder.parameters())


def test_init_from_copies_classes_and_bands_by_name() -> None:
    source = build_model(config(), spec(3, 4))
    target = build_model(
        config(),
        DatasetSpec(
            (InputSpec(("b2", "new", "b0", "b1"), "uint8", 255.0, mean=(0.3,) * 4, std=(0.2,) * 4),),
            ("other", "c3"),
            ((0, 0, 0), (1, 1, 1)),
        ),
    )
    init_from(target, source)
    head, old = target.net.segmentation_head[0].weight, source.net.segmentation_head[0].weight
    assert torch.equal(head[1], old[3]) and not torch.equal(head[0], old[0])
    first, given = target.encoder.model.conv1.weight, source.encoder.model.conv1.weight
    assert torch.equal(first[:, 0], given[:, 2]) and torch.equal(first[:, 2], given[:, 0])
    assert torch.equal(target.encoder.model.layer1[0].conv1.weight, source.encoder.model.layer1[0].conv1.weight)


def test_init_from_reorders_bands() -> None:
    source = build_model(config(), spec(3, 4))
    reordered = (InputSpec(("b2", "b1", "b0"), "uint8", 255.0, mean=(0.3,) * 3, std=(0.2,) * 3),)
    target = build_model(config(), DatasetSpec(reordered, source.spec.class_names, source.spec.palette))
    init_from(target, source)
    assert torch.equal(target.encoder.model.conv1.weight, source.encoder.model.conv1.weight.flip(1))
    assert torch.equal(target.net.segmentation_head[0].weight, source.net.segmentation_head[0].weight)


@pytest.mark.parametrize("options", [{"activation": "sigmoid"}, {"encoder_name": "tu-hf-hub:someone/model"}])
def test_models_that_could_not_be_loaded_again_raise_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"not allowed|not a plain timm name"):
        build_model(config() | options, spec())


def test_init_from_another_architecture_raises_an_error() -> None:
    with pytest.raises(ModelError, match="same model and backbone"):
        init_from(build_model(config(), spec()), build_model(config(backbone="mobilenetv4_conv_small"), spec()))


def test_an_unknown_backbone_raises_an_error_with_similar_names() -> None:
    with pytest.raises(ModelError, match=r"encoder_name=tu-resnet19: there is no such backbone; did you mean resnet18"):
        build_model(config(backbone="resnet19"), spec())


@pytest.mark.parametrize(
    ("backbone", "why"),
    [
        ("vit_tiny_patch16_224", "its feature maps all have one size, 1/16 of the image"),
        ("swin_tiny_patch4_window7_224", "it only takes images of 224 x 224 pixels"),
    ],
)
def test_an_unsuitable_backbone_raises_an_error_that_says_why_and_names_suitable_ones(backbone: str, why: str) -> None:
    """The check comes before the download of weights."""
    with pytest.raises(ModelPairError, match=f"Unet does not work on the backbone {backbone}: {why}.*ResNet, Eff"):
        build_model(config("unet", backbone, "hub") | {"encoder_name": backbone}, spec())


OWN_DECODER = """
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn
from torch.nn.functional import interpolate


class Mine(nn.Module):
    def __init__(self, encoder_name, encoder_weights, in_channels, classes, **options):
        super().__init__()
        self.encoder = get_encoder(encoder_name, in_channels=in_channels, weights=encoder_weights, **options)
        self.head = nn.Conv2d(self.encoder.out_channels[-1], classes, 1)

    def forward(self, image):
        return interpolate(self.head(self.encoder(image)[-1]), size=image.shape[-2:])
"""


@pytest.mark.parametrize(
    ("old", "new", "name", "expected"),
    [
        (
            "(image)[-1]",
            "(image)",
            "Mine",
            r"Mine fails on the backbone resnet18: .*\(\S*own_decoder.py:14\)",
        ),
        (", size=image.shape[-2:]", ", scale_factor=8", "Mine", r"returns \(1, 4, 16, 24\) .* of \(1, 4, 64, 96\)"),
        ("classes, 1", "classes - 1, 1", "Mine", r"returns \(1, 3, 64, 96\) .* and 4 classes; .* of \(1, 4, 64, 96\)"),
        ("classes, 1", "classes + 2, 1", "Mine", r"returns \(1, 6, 64, 96\) .* and 4 classes; .* of \(1, 4, 64, 96\)"),
        ("return interpolate", "return None and interpolate", "Mine", "Mine.forward returns NoneType for an image"),
        ("self.encoder", "self.backbone", "Mine", "Mine has no encoder: .* self.encoder"),
        ("", "", "Mime", "own_decoder has no Mime; did you mean Mine. Check the spelling"),
        ("import nn", "import no_such_name", "Mine", "own_decoder.Mine cannot be imported: .*no_such_name"),
    ],
)
def test_a_faulty_decoder_of_the_users_own_is_named_with_what_is_wrong(
    old: str, new: str, name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_decoder", raising=False)
    mine = config() | {"_target_": f"own_decoder.{name}", "encoder_name": "resnet18"}
    (tmp_path / "own_decoder.py").write_text(OWN_DECODER.replace(old, new))
    with pytest.raises(ModelError, match=expected) as error:
        build_model(mine, spec())
    assert not isinstance(error.value, ModelPairError)  # whose advice is to choose another backbone


def test_a_plain_timm_name_selects_the_timm_backbone() -> None:
    plain = build_model(config() | {"encoder_name": "test_efficientnet"}, spec())
    assert plain.config["encoder_name"] == "tu-test_efficientnet"
    own = build_model(
        config() | {"encoder_name": "resnet18"}, spec()
    )  # SMP has its own backbone of this name, which old run records use
    assert own.config["encoder_name"] == "resnet18"


@pytest.mark.parametrize("model", MODELS)
def test_the_catalogue_lists_decoders_that_leave_backbone_stages_unused(model: str) -> None:
    network = build_model(config(model, "mobilenetv4_conv_small"), spec()).train()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    unused = any(p.grad is None for p in network.parameters())
    assert may_leave_layers_unused(MODELS[model]) == unused
    assert may_leave_layers_unused("my_package.models.MyModel")
