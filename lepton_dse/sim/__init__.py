"""Cost models: per family an analytical one for search and a fine simulator that it is checked against."""
