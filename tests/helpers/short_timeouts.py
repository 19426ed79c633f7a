"""Run `satseg.serve` or `satseg.app` with short timeouts: `short_timeouts.py serve option...`."""

import runpy
import sys

from satseg.serve import connections

connections.HEADER_SECONDS = 1.5
connections.WINDOW_SECONDS = 3.0
connections.MAX_PER_ADDRESS = 8
connections.MAX_CONNECTIONS = 40

if __name__ == "__main__":
    runpy.run_module(f"satseg.{sys.argv.pop(1)}", run_name="__main__")
