"""Statistics: bootstrap intervals, permutation tests, power, preferences."""
