"""Surveys: people compare images in pairs, and judges are held against them."""
