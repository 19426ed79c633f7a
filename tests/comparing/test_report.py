"""Comparisons of runs whose scores are known: made up here, not trained."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command, refused
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from satseg.comparing import find_runs, make_boards
from satseg.comparing.bootstrap import draw_groups, resampled_miou
from satseg.evaluation import PLAIN, EvaluationResult, ImageScores, Scoring
from satseg.metrics import Scores
from satseg.score_files import write_evaluation

NAMES = ("land", "water", "road")


def made_up(
    folder: Path, seed: int, accuracy: float, choices: dict[str, str], scoring: Scoring = PLAIN, images: int = 24
) -> Path:
    """Write the record of a run whose predictions are right with a chance of `accuracy`, over eight tiles."""
    random, truth = np.random.default_rng([seed, round(accuracy * 1e6)]), np.random.default_rng(0)
    scored = []
    for i in range(images):
        shares = truth.dirichlet((1, 1, 1))
        hard = truth.normal(0, 0.08)  # the same for all runs
        right = np.clip(accuracy + hard + random.normal(0, 0.03), 0.05, 0.95)
        confusion = np.full((3, 3), (1 - right) / 2) + np.eye(3) * (right - (1 - right) / 2)
        matrix = np.round(shares[:, None] * confusion * 4096).astype(np.int64)
        scored.append(ImageScores(f"tile{i % 8}_{i}", f"tile{i % 8}", Scores.from_matrix(matrix, NAMES)))
    result = EvaluationResult(NAMES, scored, scoring, seconds=2.0)
    folder.mkdir(parents=True)
    lr = {"a": 0.1, "b": 0.01}[choices.get("loss", "a")]
    (folder / "config.yaml").write_text(
        f"seed: {seed}\nrun_dir: {folder}\noptimizer: {{lr: {lr}}}\nloss: {{_target_: x.{choices.get('loss')}}}\n"
    )
    (folder / "choices.json").write_text(json.dumps(choices))
    (folder / "data.json").write_text(json.dumps({"class_pixels": dict.fromkeys(NAMES, 1)}))
    (folder / "summary.json").write_text(json.dumps({"score": 0, "parameters": 2_000_000, "training_seconds": 90}))
    write_evaluation(result, folder / "evaluation" / "test", "test")
    return folder


def test_a_leaderboard_tells_leads_from_noise(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for loss, backbone, accuracy in [("a", "s", 0.70), ("a", "t", 0.702), ("b", "s", 0.60), ("b", "t", 0.602)]:
            made_up(tmp_path / f"runs/{loss}{backbone}{seed}", seed, accuracy, {"loss": loss, "backbone": backbone})
    (tmp_path / "runs/failed").mkdir()
    (tmp_path / "runs/failed/config.yaml").write_text("seed: 1\n")
    (tmp_path / "runs/failed/failure.json").write_text('{"kind": "DivergedError", "message": "it diverged"}')
    done = command("report", "runs=[runs/a*,runs/b*,runs/failed]", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert text.strip() in done.stdout and "failed: it diverged" in text

    with (tmp_path / "out/leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["board"] for row in rows} == {"1"}
    assert set(rows[0]) >= {"loss", "backbone", "seed", "miou", "iou/water", "parameters", "minutes"}
    assert "optimizer.lr" not in rows[0]  # it follows from the loss
    means = {}
    for row in rows:
        means.setdefault((row["rank"], row["loss"], row["backbone"]), []).append(float(row["miou"]))
    best_first = [np.mean(values) for _, values in sorted(means.items())]
    assert best_first == sorted(best_first, reverse=True) and len(means) == 4
    for (_, loss, backbone), values in means.items():
        spread = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
        (line,) = [ln for ln in text.splitlines() if f"backbone={backbone}, loss={loss}" in ln and "±" in ln]
        assert spread in line and "| 3 |" in line and "| 2.0 | 1.5 |" in line
        assert ("noise" in line) == (loss == "a" and "leads" not in line), line
    effects = {tuple(ln.strip("| ").split(" | ")[:2]): ln for ln in text.splitlines() if " | 6 | " in ln}
    assert "noise" not in effects["loss", "b"] and "best" in effects["loss", "a"] and "−0.1" in effects["loss", "b"]
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == 2 and "http" not in page.replace("http-equiv", "")


def test_runs_that_were_scored_unlike_are_not_ranked_together(tmp_path: Path) -> None:
    made_up(tmp_path / "runs/one", 1, 0.6, {"loss": "a"})
    made_up(tmp_path / "runs/two", 1, 0.5, {"loss": "b"})
    made_up(tmp_path / "runs/tta", 1, 0.9, {"loss": "a"}, Scoring(tta="d4"))
    made_up(tmp_path / "runs/edges", 1, 0.9, {"loss": "a"}, Scoring(ignore_edges=3))
    made_up(tmp_path / "runs/fewer", 1, 0.9, {"loss": "a"}, images=23)
    done = command("report", "runs=runs", "output=out", cwd=tmp_path)
    text = done.stdout
    assert text.count("## Leaderboard") == 4 and text.index("loss=a leads") < text.index("Not ranked")
    for why in ("tta: d4, not none", "ignore_edges: 3 px, not 0 px", "images: 23 of split test"):
        assert why in text
    assert "One seed each" in text


def test_what_cannot_be_compared_is_told_in_one_line(tmp_path: Path) -> None:
    assert "fits no folder" in refused("report", "runs=nothing*", cwd=tmp_path)
    run = made_up(tmp_path / "runs/one", 1, 0.6, {})
    assert "score it with satseg.evaluate" in refused("report", "runs=runs", "evaluation=val", cwd=tmp_path)
    (run / "evaluation/test/matrices.npz").write_bytes(b"PK\x03\x04broken")
    assert "score the run again" in refused("report", "runs=runs", cwd=tmp_path)
    assert not (tmp_path / "out").exists()


@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_resampled_score_is_that_of_the_resampled_images(classes: int, groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=(2 * groups, 40))
    guess = np.where(random.random(truth.shape) < 0.5, truth, random.integers(classes, size=truth.shape))
    names = [f"g{i % groups:02d}" for i in range(2 * groups)]
    matrices = np.zeros((2 * groups, classes, classes), np.int64)
    for i in range(2 * groups):
        np.add.at(matrices[i], (truth[i], guess[i]), 1)
    drawn = draw_groups(groups, 3, seed)
    scores = resampled_miou(matrices, names, drawn)
    for counts, score in zip(drawn, scores, strict=True):
        taken = np.repeat(np.arange(2 * groups), [counts[i % groups] for i in range(2 * groups)])
        expected = jaccard_score(truth[taken].ravel(), guess[taken].ravel(), average="macro")
        assert score == pytest.approx(expected, abs=1e-12)


def test_equal_models_are_called_equal_about_as_often_as_promised(tmp_path: Path) -> None:
    surely_worse = 0
    for trial in range(40):
        folder = tmp_path / str(trial)
        for number in (1, 2):
            made_up(folder / str(number), 100 * trial + number, 0.6, {"loss": "ab"[number - 1]})
        records, _ = find_runs([str(folder)], "test")
        (board,) = make_boards(records, draws=400)
        surely_worse += not board.entries[1].is_noise
    assert surely_worse <= 8  # 5 % are promised; eight groups are few, and a seed each says nothing of seeds


def choices_of(records: list[Any]) -> list[str]:
    (board,) = make_boards(records, draws=10)
    return [entry.name for entry in board.entries]


def test_one_configuration_is_named_by_its_folder(tmp_path: Path) -> None:
    made_up(tmp_path / "a run", 1, 0.6, {"loss": "a"})
    records, left_out = find_runs([str(tmp_path)], "test")
    assert choices_of(records) == ["a run"] and not left_out
