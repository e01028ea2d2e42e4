"""What is measured: benchmark declarations, runners, and the harness that they share."""
