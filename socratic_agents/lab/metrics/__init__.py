"""Metrics of images and prompts, one registry of them, and scores with what was left out."""
