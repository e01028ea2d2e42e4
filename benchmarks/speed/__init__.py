"""Training throughput of cells by configuration, compared with a plain loop and the hardware's limit."""
