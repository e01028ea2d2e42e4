"""VTAB-1K on its real data: the declaration of the 19 tasks, and the two sources they come from."""

from __future__ import annotations

from data_prep.vtab1k.tasks import SPLITS, TASKS, Task

__all__ = ["SPLITS", "TASKS", "Task"]
