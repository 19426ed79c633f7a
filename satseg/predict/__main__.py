"""`python -m satseg.predict`: segment georeferenced scenes of any size."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Write a map and the requested extra files of every scene; print their paths and the speed."""
    from satseg.predict.models import open_models
    from satseg.predict.outcomes import table
    from satseg.predict.run import check_options, predict_scenes, write_combined

    check_options(cfg)
    models = open_models(cfg)
    outcomes = predict_scenes(cfg, models)
    print(table(outcomes) if len(outcomes) > 1 else f"Map: {outcomes[0].line()}")
    for line in filter(None, [*write_combined(cfg, outcomes), models.engine_line()]):
        print(line)
    if any(outcome.error for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
