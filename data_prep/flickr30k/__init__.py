"""Flickr30K for image-text retrieval: precomputed region features, and captions as word pieces."""
