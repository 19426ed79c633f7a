"""`python -m satseg.app`: use models in a browser."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("app")
def main(cfg: DictConfig) -> None:
    """Serve the app until the process is stopped."""
    from satseg.serve.web import serve

    serve(cfg, with_page=True)


if __name__ == "__main__":
    main()
