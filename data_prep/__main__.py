"""``python -m data_prep``."""

from __future__ import annotations

import sys

from data_prep.cli import main

sys.exit(main())
