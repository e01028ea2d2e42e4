"""MSR-VTT for text-video retrieval: annotations, twelve frames a clip at most, captions as CLIP's tokens."""
