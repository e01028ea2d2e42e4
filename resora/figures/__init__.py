"""The numbers and figures of ``resora/METHOD.md``: ``python -m resora.figures`` in a checkout.

The page quotes numbers by their name in ``method.json``, which is written beside the figures. This folder is
no part of the installed library: it needs matplotlib.
"""
