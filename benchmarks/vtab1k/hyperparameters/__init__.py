"""Hyper-parameters that differ from task to task: released by public repositories, or chosen by sweeps.

``<method>.toml`` has the released values of a method on every kind of backbone, ``<method>.<kind>.toml``
those on one kind, which go first. The table ``sources`` names each column and where it comes from,
``every_task`` has the values that all tasks share, ``tasks`` has one line a task. What sweeps have chosen is
in ``<method>.<backbone>.<scale>.toml`` (``benchmarks/harness/swept.py``).
"""

from pathlib import Path

FOLDER = Path(__file__).parent
