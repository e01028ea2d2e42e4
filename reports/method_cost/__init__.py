"""The table of what a training step costs with each method."""
