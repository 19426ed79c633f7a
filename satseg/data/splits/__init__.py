"""Splits into training, validation and test samples, by names, locations and a seed; never by order or machine."""

from satseg.data.splits.auto import Auto
from satseg.data.splits.blocks import Blocks
from satseg.data.splits.checking import SPLITS, Splits, check_disjoint, left_out
from satseg.data.splits.hashed import Group, Random
from satseg.data.splits.predefined import List, Subfolder
from satseg.data.splits.stratified import Stratified

__all__ = [
    "SPLITS",
    "Auto",
    "Blocks",
    "Group",
    "List",
    "Random",
    "Splits",
    "Stratified",
    "Subfolder",
    "check_disjoint",
    "left_out",
]
