"""The options files of the repository that BasicSR runs."""

from pathlib import Path

OPTIONS = Path(__file__).parents[1] / "options"
WEIGHTS = sorted([*OPTIONS.glob("weights/*_teacher.yml"), *OPTIONS.glob("weights/*_student.yml")])
ALL = sorted([*OPTIONS.glob("*.yml"), *OPTIONS.glob("baselines/*.yml"), *WEIGHTS])
