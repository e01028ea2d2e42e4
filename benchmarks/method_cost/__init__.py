"""What a training step costs with each method: time and memory, all methods side by side."""
