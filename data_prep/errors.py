"""Errors about data that a person can act on."""

from __future__ import annotations


class DataError(Exception):
    """Data that cannot be used as they are; the message says what is wrong, where, and what helps."""
