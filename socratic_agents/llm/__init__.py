"""Calls of chat models: typed, counted, cached, paced and retried; and the templates of prompts."""
