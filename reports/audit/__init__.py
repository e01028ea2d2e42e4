"""What the paper printed, held against what can be computed: one module an audit, and its command line.

May import torch, timm and transformers, but only when an audit runs: `networks` is imported late.
"""
