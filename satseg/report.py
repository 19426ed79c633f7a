"""`python -m satseg.report`: compare runs."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("report")
def main(cfg: DictConfig) -> None:
    """Write a leaderboard as Markdown, CSV and a page with pictures; print it."""
    import time
    from pathlib import Path

    from satseg.comparing import find_runs, make_boards, write_comparison
    from satseg.locks import alone_in

    patterns = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    records, left_out = find_runs(patterns, cfg.evaluation)
    boards = make_boards(records, cfg.draws, cfg.seed)
    folder = Path(cfg.output or Path(cfg.runs_dir) / "reports" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    with alone_in(folder):
        print(write_comparison(boards, left_out, folder))
    print(f"Page: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
