"""The lab: what the loop and its models are worth, measured."""
