"""The crash-safe run directory: journal, object store, results, and data in PNG files."""
