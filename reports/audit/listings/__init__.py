"""What each audit prints: one module an audit, from its findings to a listing, and the summary of all."""
