"""`python -m satseg.serve`: serve models to programs over HTTP."""

from __future__ import annotations

from omegaconf import DictConfig

from satseg.cli import entry_point


@entry_point("serve")
def main(cfg: DictConfig) -> None:
    """Serve the API until the process is stopped."""
    from satseg.serve.web import serve

    serve(cfg, with_page=False)


if __name__ == "__main__":
    main()
