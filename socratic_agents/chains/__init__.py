"""The roles of the language model, and the one way in which they ask it."""
