"""HTML pages of refinements and runs."""
