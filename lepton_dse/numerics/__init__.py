"""Number formats and the one definition of quantised arithmetic; arrays in, arrays out."""
