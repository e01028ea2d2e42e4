"""Few-shot recognition on five fine-grained data sets (paper, section 4.3 and Figure 3)."""
