"""Training of the pocket world's models: ``python -m socratic_agents.pocket.train``."""
