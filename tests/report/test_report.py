"""Reports that compare runs, on fabricated runs with known scores."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command, error_line
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from satseg.evaluate.files import write_evaluation
from satseg.evaluate.metrics import Scores
from satseg.evaluate.scoring import PLAIN, EvaluationResult, ImageScores, Scoring
from satseg.report.boards import make_boards
from satseg.report.records import find_runs
from satseg.report.statistics import draw_groups, resampled_miou

NAMES = ("land", "water", "road")


def fabricate_run(
    folder: Path,
    seed: int,
    accuracy: float,
    choices: dict[str, str],
    scoring: Scoring = PLAIN,
    images: int = 24,
    lr: float = 0.1,
    spread: float = 0.0,
) -> Path:
    """Write the record of a run whose predictions have a given accuracy, over eight tiles."""
    random, truth = np.random.default_rng([seed, round(accuracy * 1e6)]), np.random.default_rng(0)
    scored, seed_effect = [], random.normal(0, spread)
    for i in range(images):
        shares = truth.dirichlet((1, 1, 1))
        difficulty = truth.normal(0, 0.08)  # the same for all runs
        right = np.clip(accuracy + seed_effect + difficulty + random.normal(0, 0.03), 0.05, 0.95)
        matrix = np.zeros((3, 3), np.int64)
        for row, pixels in enumerate(np.round(shares * 4096).astype(np.int64)):  # the same truth in all runs
            hits = round(pixels * right)
            matrix[row] = (pixels - hits) // 2
            matrix[row, row] = hits
            matrix[row, row - 1] = pixels - hits - (pixels - hits) // 2
        scored.append(ImageScores(f"tile{i % 8}_{i}", f"tile{i % 8}", Scores.from_matrix(matrix, NAMES)))
    result = EvaluationResult(NAMES, scored, scoring, seconds=2.0)
    folder.mkdir(parents=True)
    backbone = choices.get("backbone", "s")
    (folder / "config.yaml").write_text(
        f"seed: {seed}\nrun_dir: {folder}\nloss: {{_target_: x.{choices.get('loss')}}}\noptimizer: {{lr: {lr}}}\n"
        f"backbone: {{encoder_name: tu-{backbone}}}\nmodel: {{encoder_name: tu-{backbone}}}\n"
    )
    (folder / "choices.json").write_text(json.dumps(choices))
    (folder / "data.json").write_text(json.dumps({"class_pixels": dict.fromkeys(NAMES, 1)}))
    (folder / "summary.json").write_text(
        json.dumps({"score": 0, "scores": {}, "monitor": "val/miou", "parameters": 2_000_000, "training_seconds": 90})
    )
    write_evaluation(result, folder / "evaluation" / "test", "test")
    return folder


def test_a_leaderboard_distinguishes_leads_from_noise(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for loss, backbone, accuracy in [("a", "s", 0.70), ("a", "t", 0.702), ("b", "s", 0.60), ("b", "t", 0.602)]:
            fabricate_run(
                tmp_path / f"runs/{loss}{backbone}{seed}", seed, accuracy, {"loss": loss, "backbone": backbone}
            )
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
    assert not {"loss._target_", "backbone.encoder_name", "model.encoder_name"} & set(
        rows[0]
    )  # values that follow from the choices
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


def test_runs_with_different_scoring_are_ranked_separately(tmp_path: Path) -> None:
    fabricate_run(tmp_path / "runs/one", 1, 0.6, {"loss": "a"})
    fabricate_run(tmp_path / "runs/two", 1, 0.5, {"loss": "b"})
    fabricate_run(tmp_path / "runs/tta", 1, 0.9, {"loss": "a"}, Scoring(tta="d4"))
    fabricate_run(tmp_path / "runs/edges", 1, 0.9, {"loss": "a"}, Scoring(ignore_edges=3))
    fabricate_run(tmp_path / "runs/fewer", 1, 0.9, {"loss": "a"}, images=23)
    done = command("report", "runs=runs", "output=out", cwd=tmp_path)
    text = done.stdout
    assert text.count("## Leaderboard") == 4 and text.index("loss=a leads") < text.index("Ranked separately")
    for why in ("tta: d4, not none", "ignore_edges: 3 px, not 0 px", "images: 23 of split test"):
        assert why in text
    assert "one seed each" in text


def test_missing_and_corrupt_scores_raise_an_error_of_one_line(tmp_path: Path) -> None:
    assert "matches no folder" in error_line("report", "runs=nothing*", cwd=tmp_path)
    run = fabricate_run(tmp_path / "runs/one", 1, 0.6, {})
    message = error_line("report", "runs=runs", "evaluation=val", cwd=tmp_path)
    assert f"score it with python -m satseg.evaluate checkpoint={run} split=val" in message
    (run / "evaluation/test/matrices.npz").write_bytes(b"PK\x03\x04broken")
    assert "score the run again" in error_line("report", "runs=runs", cwd=tmp_path)
    assert not (tmp_path / "out").exists()


def test_runs_without_a_test_split_are_compared_by_validation_scores(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = fabricate_run(tmp_path / f"runs/{seed}", seed, 0.6, {})
        (run / "evaluation/test").rename(run / "evaluation/val")
    done = command("report", "runs=runs", "output=out", cwd=tmp_path)
    assert done.returncode == 0 and "Comparing evaluation=val, as no run has scores on a test" in done.stderr, done
    assert "| 2 |" in done.stdout


@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_resampled_score_equals_that_of_the_resampled_images(classes: int, groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=(2 * groups, 40))
    predicted = np.where(random.random(truth.shape) < 0.5, truth, random.integers(classes, size=truth.shape))
    names = [f"g{i % groups:02d}" for i in range(2 * groups)]
    matrices = np.zeros((2 * groups, classes, classes), np.int64)
    for i in range(2 * groups):
        np.add.at(matrices[i], (truth[i], predicted[i]), 1)
    drawn = draw_groups(groups, 3, seed)
    scores = resampled_miou(matrices, names, drawn)
    for counts, score in zip(drawn, scores, strict=True):
        taken = np.repeat(np.arange(2 * groups), [counts[i % groups] for i in range(2 * groups)])
        expected = jaccard_score(truth[taken].ravel(), predicted[taken].ravel(), average="macro")
        assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("configurations", "seeds"), [(2, 1), (2, 3), pytest.param(5, 3, marks=pytest.mark.slow)])
def test_equal_models_are_called_worse_no_more_often_than_stated(
    configurations: int, seeds: int, tmp_path: Path
) -> None:
    called_worse = 0
    for trial in range(60):
        folder = tmp_path / str(trial)
        for number in range(configurations):
            for seed in range(seeds):
                seed_effect = 1000 * trial + 10 * number + seed
                fabricate_run(
                    folder / f"{number}{seed}", seed_effect, 0.6, {"loss": str(number)}, spread=0.02 * (seeds > 1)
                )
        records, _ = find_runs([str(folder)], "test")
        (board,) = make_boards(records, draws=300)
        called_worse += any(not entry.is_noise for entry in board.entries[1:])
    assert called_worse <= 8  # 3 of 60 are expected; 9 or more have a chance of one in 300


def test_choices_that_always_change_together_are_named_together(tmp_path: Path) -> None:
    for seed in (1, 2):
        fabricate_run(tmp_path / f"a{seed}", seed, 0.7, {"loss": "a", "backbone": "s"}, lr=0.1)
        fabricate_run(tmp_path / f"b{seed}", seed, 0.6, {"loss": "b", "backbone": "t"}, lr=0.01)
    records, _ = find_runs([str(tmp_path)], "test")
    assert choices_of(records)[0] == "backbone+loss+optimizer.lr=s+a+0.1"


def test_a_repeated_run_does_not_count_as_another_seed(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        fabricate_run(tmp_path / name, 1, 0.6, {"loss": "a"})
    records, left_out = find_runs([str(tmp_path)], "test")
    assert len(records) == 1 and len(left_out) == 2
    assert all("the same configuration and seed as" in why for why in left_out.values())


def test_runs_on_images_with_different_labels_are_ranked_separately(tmp_path: Path) -> None:
    fabricate_run(tmp_path / "one", 1, 0.6, {"loss": "a"})
    fabricate_run(tmp_path / "two", 1, 0.7, {"loss": "b"})
    path = tmp_path / "two/evaluation/test/matrices.npz"
    with np.load(path) as found:
        changed = {key: found[key].copy() for key in found.files}
    changed["matrices"][0] = changed["matrices"][0].T
    np.savez(path, **changed)
    records, _ = find_runs([str(tmp_path)], "test")
    assert len(make_boards(records, draws=10)) == 2


def choices_of(records: list[Any]) -> list[str]:
    (board,) = make_boards(records, draws=50)
    return [entry.name for entry in board.entries]


def test_one_configuration_is_named_by_its_folder(tmp_path: Path) -> None:
    fabricate_run(tmp_path / "a run", 1, 0.6, {"loss": "a"})
    records, left_out = find_runs([str(tmp_path)], "test")
    assert choices_of(records) == ["a run"] and not left_out


def test_temporary_folders_of_killed_processes_are_not_runs(tmp_path: Path) -> None:
    fabricate_run(tmp_path / "run", 1, 0.6, {"loss": "a"})
    left = tmp_path / "run/.satseg-0123456789ab.tmp"
    left.mkdir()
    shutil.copy(tmp_path / "run/summary.json", left)
    records, left_out = find_runs([str(tmp_path)], "test")
    assert len(records) == 1 and not left_out
