"""How fast cells train on a machine, by way of training, against a plain loop and the hardware's limit."""
