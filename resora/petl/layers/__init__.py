"""Layers that more than one method is made of."""
