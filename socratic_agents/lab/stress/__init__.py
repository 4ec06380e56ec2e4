"""Stress: the loop in a world whose models err as often as they are told to."""
