"""Gets, verifies and packs the data sets of the suite."""
