"""The captioner's own language model as the chat model of all roles: llm 'captioner'."""
