"""The bench on a device: schedulers take turns on real models."""
