"""The commands of `socratic lab`."""
