"""Evaluation: scores against scikit-learn, for any batch size and number of processes."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from torch import Tensor

from satseg.errors import DataError
from satseg.evaluate.files import write_evaluation
from satseg.evaluate.metrics import ConfusionMatrix
from satseg.evaluate.scoring import evaluate, score_batch
from satseg.losses import WeightedSum
from satseg.models import SegmentationNetwork, build_model
from satseg.models.catalogue import MODELS
from satseg.spec import DatasetSpec, InputSpec

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    source = InputSpec(("r", "g", "b"), "uint8", 255.0, mean=(0.5,) * 3, std=(0.2,) * 3)
    spec = DatasetSpec((source,), NAMES, tuple((i, i, i) for i in range(4)))
    config = {"_target_": MODELS["fpn"], "encoder_name": "tu-mobilenetv4_conv_small", "encoder_weights": "none"}
    return build_model(config, spec).eval()


def batch(count: int, seed: int = 0) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    mask = torch.randint(
        0, 3, (count, 40, 50), generator=random, dtype=torch.uint8
    )  # class d never occurs in the masks
    mask[:, :7] = 255
    return {
        "image": torch.randint(0, 256, (count, 3, 40, 50), generator=random, dtype=torch.uint8),
        "mask": mask,
        "valid": torch.rand((count, 40, 50), generator=random) > 0.2,
        "name": [f"image {i}" for i in range(count)],
    }


def split_batch(whole: dict[str, Any], size: int) -> list[dict[str, Any]]:
    return [{k: v[i : i + size] for k, v in whole.items()} for i in range(0, len(whole["name"]), size)]


def labelled_pixels(network: SegmentationNetwork, whole: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        predicted = network(whole["image"], whole["valid"]).argmax(1)
    keep = whole["valid"] & (whole["mask"] != 255)
    return whole["mask"][keep].numpy(), predicted[keep].numpy()


def test_scores_equal_those_of_scikit_learn(network: SegmentationNetwork) -> None:
    whole = batch(5)
    result = evaluate(network, split_batch(whole, 2), torch.device("cpu"))
    truth, predicted = labelled_pixels(network, whole)
    seen = sorted({*truth, *predicted})
    values = result.scores.as_dict()
    assert values["miou"] == pytest.approx(jaccard_score(truth, predicted, labels=seen, average="macro"), abs=1e-12)
    assert values["micro_iou"] == pytest.approx(
        jaccard_score(truth, predicted, labels=seen, average="micro"), abs=1e-12
    )
    assert values["f1"] == pytest.approx(f1_score(truth, predicted, labels=seen, average="macro"), abs=1e-12)
    assert values["accuracy"] == accuracy_score(truth, predicted)


def test_scores_and_loss_do_not_depend_on_the_batch_size(network: SegmentationNetwork) -> None:
    whole = batch(6)
    whole["valid"][2] = False  # an image without valid pixels
    criterion = WeightedSum({"cross_entropy": torch.nn.CrossEntropyLoss}, {"cross_entropy": 1.0}, None)
    losses, matrices = [], []
    for size in (1, 2, 5, 6):
        scored = [score_batch(network, part, criterion) for part in split_batch(whole, size)]
        pixels = torch.tensor([s.pixels for s in scored], dtype=torch.float64)
        losses.append(float((torch.stack([s.loss for s in scored]).double() * pixels).sum() / pixels.sum()))
        matrices.append(torch.cat([s.matrices for s in scored]))
    assert np.allclose(losses, losses[0], rtol=1e-5)
    assert all(torch.equal(m, matrices[0]) for m in matrices)


def test_a_split_without_labels_raises_an_error(network: SegmentationNetwork) -> None:
    whole = batch(1)
    whole["mask"][:] = 255
    with pytest.raises(DataError, match="no labelled pixel"):
        evaluate(network, [whole], torch.device("cpu"))


def test_evaluation_files_are_standard_json_csv_and_markdown(network: SegmentationNetwork, tmp_path: Path) -> None:
    result = evaluate(network, split_batch(batch(4), 1), torch.device("cpu"))
    write_evaluation(result, tmp_path, "test")
    document = json.loads((tmp_path / "scores.json").read_text())
    assert document["scores"]["miou"] == result.scores.miou and document["split"] == "test"
    assert set(document["protocol"]) >= {"miou", "micro_iou", "accuracy", "windows"}
    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["miou"]) for r in rows] == sorted(float(r["miou"]) for r in rows) and len(rows) == 4
    assert sum(int(r["pixels"]) for r in rows) == result.matrix.sum()
    table = (tmp_path / "scores.md").read_text()
    assert "(macro)" in table and f"| miou | {result.scores.miou:.4f} |" in table and "4 images" in table


def _rank(rank: int, store: str, matrices: Tensor, results: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    metric = ConfusionMatrix(4)
    metric.update(matrices[rank::2])
    results[rank] = metric.compute().tolist()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_different_numbers_of_images_count_each_once(tmp_path: Path) -> None:
    matrices = torch.randint(0, 1000, (5, 4, 4))
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"), matrices, results), nprocs=2)
        assert results[0] == results[1] == matrices.sum(0).tolist()
