"""The five few-shot sets from the published split lists."""
