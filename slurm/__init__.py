"""Plans the missing cells as jobs for a cluster."""
