"""What to run with: settings, profiles and presets, and where workers run."""
