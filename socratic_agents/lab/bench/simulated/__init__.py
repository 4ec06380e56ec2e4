"""The simulated bench: schedulers in virtual time, with published costs of models."""
