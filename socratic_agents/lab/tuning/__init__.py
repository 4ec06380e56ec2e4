"""Templates that are tuned: examples mined from runs, and rewriting by evolution."""
