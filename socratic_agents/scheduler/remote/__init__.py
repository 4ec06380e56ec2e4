"""The same worker in child processes or Ray actors, behind one router."""
