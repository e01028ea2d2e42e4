"""Tables and figures from the records: the declared grid, left-joined with what was measured.

May import `benchmarks.harness` and the benchmarks' specs; nothing imports this package. ``load`` gives the
records as a pandas frame (reports/README.md).
"""

from reports.records import load

__all__ = ["load"]
