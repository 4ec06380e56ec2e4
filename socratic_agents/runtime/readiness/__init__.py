"""Readiness: whether what the settings choose can run here, before it does."""
