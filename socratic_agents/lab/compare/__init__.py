"""Arms side by side on the same prompts at the same number of images."""
