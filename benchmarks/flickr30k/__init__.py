"""Image-text retrieval on Flickr30K with VSE-infinity (paper, section 4.1 and Table 1)."""
