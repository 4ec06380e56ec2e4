"""Surveys: people compare images in pairs, and judges are compared with them."""
