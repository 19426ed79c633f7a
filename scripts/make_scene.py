"""Write a generated scene larger than those of the synthetic dataset, for trying `satseg.predict`.

python scripts/make_scene.py runs/demo_scene.tif
"""

import argparse
import tempfile
from pathlib import Path

from satseg.data.synthetic.scene import make_scene, write_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=1536, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=1, help="the synthetic dataset uses 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene((arguments.seed, 0, 0), arguments.size)
        write_scene(scene, arguments.output, Path(folder) / "mask.tif", "rgb", (0, 0))


if __name__ == "__main__":
    main()
