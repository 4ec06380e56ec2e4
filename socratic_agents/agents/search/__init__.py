"""Searches: what is tried next, one a file."""
