"""``python -m benchmarks``."""

from benchmarks.harness.cli import main

raise SystemExit(main())
