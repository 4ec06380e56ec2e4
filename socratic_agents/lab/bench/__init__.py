"""The bench of the scheduler: simulated and on a device."""
