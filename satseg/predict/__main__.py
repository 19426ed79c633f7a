"""`python -m satseg.predict`: segment whole scenes of any size, with their coordinates."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Write a map, and what else is asked for, of every scene; say where, and how fast."""
    from satseg.predict.models import open_models
    from satseg.predict.options import check_options
    from satseg.predict.outcomes import table
    from satseg.predict.run import predict_scenes
    from satseg.predict.together import write_together

    check_options(cfg)
    models = open_models(cfg)
    outcomes = predict_scenes(cfg, models)
    print(table(outcomes) if len(outcomes) > 1 else f"Map: {outcomes[0].line()}")
    for line in filter(None, [*write_together(cfg, outcomes), models.told()]):
        print(line)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
