"""Figures as PNG files."""

from satseg.visualization.figures.balance import plot_balance
from satseg.visualization.figures.comparison import Ranked, plot_effects, plot_leaderboard
from satseg.visualization.figures.confusion import plot_confusion_matrix
from satseg.visualization.figures.curves import plot_curves
from satseg.visualization.figures.evidence import plot_evidence, plot_trust, save_picture
from satseg.visualization.figures.footprints import plot_footprints
from satseg.visualization.figures.panels import Panel, plot_map, plot_panels
from satseg.visualization.figures.samples import plot_samples

__all__ = [
    "Panel",
    "Ranked",
    "plot_balance",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_effects",
    "plot_evidence",
    "plot_footprints",
    "plot_leaderboard",
    "plot_map",
    "plot_panels",
    "plot_samples",
    "plot_trust",
    "save_picture",
]
