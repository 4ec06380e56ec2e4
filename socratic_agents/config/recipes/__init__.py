"""Recipes of model families: the numbers that nobody named, and the terms of use."""
