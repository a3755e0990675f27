"""What runs where and in which order: the one list that simulators price and emitters write."""
