"""Learning rates by set and number of shots, as public repositories have released them.

The files have the form of ``benchmarks/vtab1k/hyperparameters/``; a task is a set with its number of shots.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
