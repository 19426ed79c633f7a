"""Which samples train, validate and test. A split depends on names, places and a seed, never on order or machine."""

from satseg.data.splits.auto import Auto
from satseg.data.splits.blocks import Blocks
from satseg.data.splits.checking import SPLITS, Splits, left_out
from satseg.data.splits.hashed import Group, Random
from satseg.data.splits.predefined import List, Subfolder
from satseg.data.splits.stratified import Stratified

__all__ = ["SPLITS", "Auto", "Blocks", "Group", "List", "Random", "Splits", "Stratified", "Subfolder", "left_out"]
