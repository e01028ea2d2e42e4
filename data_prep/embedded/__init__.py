"""The embedded world: generated tasks and small pre-trained backbones that need no download."""
