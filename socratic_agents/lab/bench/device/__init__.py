"""The bench on a device: schedulers one after the other on real models."""
