"""How fast cells train, by way of training: images a second, cells an hour."""
