"""The command line: Typer commands, and nothing but commands."""

from __future__ import annotations

from socratic_agents.cli.app import main

__all__ = ("main",)
