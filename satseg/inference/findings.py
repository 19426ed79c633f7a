"""What speaks against a scene, before it is segmented."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Findings:
    """What speaks against a scene.

    Attributes:
        errors: What makes the result worthless.
        warnings: What may.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
