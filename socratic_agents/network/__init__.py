"""Requests to servers: clients with limits, turns, and what errors of servers mean."""
