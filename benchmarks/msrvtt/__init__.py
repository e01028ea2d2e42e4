"""MSR-VTT: video-text retrieval with CLIP4Clip; the right half of Table 1."""
