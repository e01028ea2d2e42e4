"""VTAB-1K: 19 image classification tasks with 1,000 training images each."""
