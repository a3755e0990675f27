"""How a transformer is best split over a cluster: prices of its work, all splits, and the fastest that fits."""
