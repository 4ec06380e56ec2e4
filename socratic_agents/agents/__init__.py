"""The language model's roles: optimizer, judges, selectors, guard, and checklists."""
