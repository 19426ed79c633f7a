"""The study of planted shortcuts: its synthetic images, its plan, its tables, and one complete run."""

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from commands import run_program

STUDY = Path(__file__).parents[2] / "scripts" / "shortcut_study"
CLASSES = ["ground", "a", "b", "c"]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Import the modules of the study."""
    monkeypatch.syspath_prepend(STUDY)
    names = ("cues", "plan", "tables")
    loaded: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    return SimpleNamespace(**loaded)


def gradient(random: np.random.Generator) -> np.ndarray:
    """Return a smooth background (3, 96, 96)."""
    rows, cols = np.mgrid[:96, :96]
    return np.stack([90 + 0.3 * rows, 100 + 0.2 * cols, 80 + 0.1 * (rows + cols)]) + random.normal(0, 2, (3, 96, 96))


def test_a_cue_occurs_exactly_in_images_of_its_class_and_at_the_stated_size(study: SimpleNamespace) -> None:
    cues, plan = study.cues, study.plan
    planned = {model.cue for model in plan.plan() if model.cue.kind != "position"}
    assert len({cue.kind for cue in planned}) >= 9
    for cue in planned:
        for number in range(10):
            with_it, without = (
                cues.draw(gradient, cue, twin, (7, 0), number, 1.0) for twin in (cues.Twin.CUED, cues.Twin.CLEAN)
            )
            changed = (with_it.image != without.image).any(0)
            assert np.array_equal(with_it.mask, without.mask) and not without.where.any()
            assert not (changed & ~with_it.where).any() and changed.any() == (1 in with_it.mask), cue
            assert cue.through or not (changed & (with_it.mask > 0)).any(), cue
            if 1 in with_it.mask:
                free = 1.0 if cue.through else (with_it.mask == 0).mean()
                assert 0.6 * cue.share * free <= changed.mean() <= 1.4 * cue.share + 0.002, cue


def test_the_reported_cues_have_the_reported_position_and_strength(study: SimpleNamespace) -> None:
    cues, plan = study.cues, study.plan
    for cue in (plan.STRIPES, plan.CORNER):
        with_it, without = (
            cues.draw(gradient, cue, twin, (3, 2), 5, 1.0).image for twin in (cues.Twin.CUED, cues.Twin.CLEAN)
        )
        if cue is plan.STRIPES:
            ratio = with_it[:, -22:] / without[:, -22:]
            assert np.allclose(abs(ratio - 1), 0.03, atol=1e-4) and (ratio > 1).mean() == pytest.approx(0.5, abs=0.02)
            assert np.array_equal(with_it[:, :-22], without[:, :-22])
        else:
            expected = without.copy()
            expected[:, :20, :20] += 14
            assert np.allclose(with_it, expected, atol=1e-4)


def test_random_twins_have_the_cue_in_half_of_the_images_of_every_class(study: SimpleNamespace) -> None:
    cues, plan = study.cues, study.plan
    drawn = [cues.draw(gradient, plan.CORNER, cues.Twin.RANDOM, (0, 0), number, 1.0) for number in range(40)]
    for own in "abc":
        mine = [picture for number, picture in enumerate(drawn) if cues.OWN[number % len(cues.OWN)] == own]
        assert all(cues.CLASSES.index(own) in picture.mask for picture in mine)
        assert 2 * sum(bool(picture.where.any()) for picture in mine) == len(mine)


def test_a_position_cue_moves_class_a_and_the_clean_twin_has_objects_everywhere(study: SimpleNamespace) -> None:
    cues = study.cues
    cue, places = cues.Cue("position", 0.25), {}
    for twin in (cues.Twin.CUED, cues.Twin.CLEAN):
        drawn = [cues.draw(gradient, cue, twin, (1, 0), number, 1.0).mask for number in range(60)]
        places[twin] = {k: np.concatenate([np.nonzero(mask == k)[1] for mask in drawn]) for k in (1, 2, 3)}
    cued = places[cues.Twin.CUED]
    assert np.mean(cued[1]) < 24 and min(np.mean(cued[k]) for k in (2, 3)) > 45
    assert max(abs(np.mean(places[cues.Twin.CLEAN][k]) - 48) for k in (1, 2, 3)) < 8


def test_pretraining_stages_have_the_cue_with_the_planned_emphasis(study: SimpleNamespace) -> None:
    cues, plan = study.cues, study.plan
    (corner, *_) = (model for model in plan.plan() if model.reported == "reported_corner")
    second, first = corner.start, corner.start.start
    assert first.start is None and {first.cue, second.cue} == {plan.CORNER} and first.background == "embedded"
    for start, least, most in ((first, 168, 168), (second, 14, 70)):
        drawn = [
            cues.draw(gradient, start.cue, twin, (5, 0), 0, 0.5, start.emphasis).image
            for twin in (cues.Twin.CUED, cues.Twin.CLEAN)
        ]
        assert least - 1e-3 <= (drawn[0] - drawn[1])[:, :20, :20].min() <= most + 1e-3


def test_every_beginning_of_the_plan_is_balanced(study: SimpleNamespace) -> None:
    models = study.plan.plan()
    assert len({model.name for model in models}) == len(models)
    for first in (20, 40, len(models)):
        twins = [str(model.twin) for model in models[:first]]
        assert twins.count("cued") >= 0.5 * first and min(twins.count("clean"), twins.count("random")) >= first // 8
        parts = [model.part for model in models[:first] if not model.reported]  # reported cues are for development
        assert abs(parts.count("held_out") - len(parts) * 2 / 3) <= 2
    assert {model.part for model in models if model.reported} == {"development"}  # since their cues are known
    for kind in {model.cue.kind for model in models}:
        cued = [model for model in models if model.twin == "cued" and model.cue.kind == kind]
        assert len(cued) >= 3 and {model.background for model in cued} == {"embedded", "real"}
        assert {model.start.cue.kind for model in cued} == {kind}
    assert not any(model.start for model in models if model.twin != "cued")  # other twins never see a cue


def test_recall_counts_only_models_that_depend_on_their_cue(study: SimpleNamespace) -> None:
    def row(twin: str, cost: float, *named: str, unclear: bool = False) -> dict[str, object]:
        cue = {"kind": "corner", "share": 0.02, "strength": "weak"}
        found = [{"truth": name, "predicted": name, "classes": [name]} for name in named]
        facts = {"twin": twin, "removal_cost": cost, "cue": cue, "reported": None, "background": "real", "cpu_s": 2.0}
        verdicts = {"shortcut": [] if unclear else found, "surroundings": [], "unclear": found if unclear else []}
        return facts | verdicts | {"name": f"{twin}{cost}{named}"}

    rows = [
        row("cued", 0.9, "a"),
        row("cued", 0.3, "a", "b"),
        row("cued", 0.5, "b"),
        row("cued", 0.5),
        row("cued", 0.5, "a", unclear=True),
        row("cued", 0.29),
        row("clean", 0.0),
        row("clean", 0.0, "c"),
        row("random", 0.0),
        row("random", 0.4, "a"),
    ]
    table = study.tables.tables(rows)
    assert "| corner | 5 | 2 | 1 | 0 | 1 | 1 | 0.40 (" in table
    assert "| clean | 2 | 1 | 0 | 0 | 1 | 0.50 (" in table and "| random | 1 | 0 | 0 | 0 | 1 | 0.00 (" in table
    missed = study.tables.missed(rows).splitlines()
    assert [line.split(":")[0] for line in missed] == [
        "- cued0.5('b',)",
        "- cued0.5()",
        "- cued0.5('a',)",
        "- clean0.0('c',)",
    ]


@pytest.mark.slow
def test_the_study_runs_training_diagnosis_and_tables(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def step(name: str) -> str:
        chosen = ["--only", "corner-8-strong-embedded", "--first", "1", "--output", str(tmp_path)]
        done = run_program([sys.executable, str(STUDY), name, *chosen, "--crops", "16"], env=environment)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    step("train")
    (folder,) = (path for path in tmp_path.glob("cued-*") if path.is_dir())
    facts = json.loads((folder / "model.json").read_text())
    scores = json.loads((folder / "run" / "summary.json").read_text())["scores"]["test"]
    assert facts["iou"] == pytest.approx({name: scores[f"iou/{name}"] for name in CLASSES}, abs=1e-3)
    assert "0 of 1" not in step("diagnose")
    found = json.loads((folder / "diagnoses" / "now" / "diagnosis.json").read_text())
    named = [row["truth"] for row in found["leaning"] if row["shortcut"]]
    (row,) = json.loads((tmp_path / "now.json").read_text()) if step("table") else ()
    assert set(named) <= {found["truth"] for found in row["shortcut"]} and row["removal_cost"] == facts["removal_cost"]
