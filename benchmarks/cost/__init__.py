"""What a penalty costs in a training step: time, memory, FLOPs (paper, section 5.3, Table 6)."""
