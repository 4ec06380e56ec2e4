"""Prompt sets: finding, loading, filtering and sampling them."""
