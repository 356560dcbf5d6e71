"""The calls: one from INVITE to its last line given back, what it tries, its two sides, and how its end is found."""
