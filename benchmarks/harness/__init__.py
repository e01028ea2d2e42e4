"""The plumbing of all benchmarks: cells, records, store, seeds, provenance, execution, commands."""
