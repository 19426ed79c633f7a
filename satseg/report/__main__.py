"""`python -m satseg.report`: compare runs."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("report")
def main(cfg: DictConfig) -> None:
    """Write a leaderboard as Markdown, CSV and HTML; print it."""
    import sys
    import time
    from pathlib import Path

    from satseg.locks import folder_lock
    from satseg.report.boards import make_boards
    from satseg.report.records import default_evaluation, find_runs
    from satseg.report.write import write_comparison

    patterns = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    evaluation = cfg.evaluation or default_evaluation(patterns)
    if cfg.evaluation is None and evaluation != "test":
        print(f"Comparing evaluation={evaluation}, as no run has scores on a test split", file=sys.stderr)
    records, left_out = find_runs(patterns, evaluation)
    boards = make_boards(records, cfg.draws, cfg.seed)
    folder = Path(cfg.output or Path(cfg.runs_dir) / "reports" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    with folder_lock(folder):
        print(write_comparison(boards, left_out, folder))
    print(f"Page: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
