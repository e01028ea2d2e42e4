"""Errors about data that a person can act on."""

from __future__ import annotations


class DataError(Exception):
    """Data that cannot be used; the message has the fault, its place, and a remedy."""
