"""Studies from a file: many arms, prompts and seeds, with tables, tests and plots."""
