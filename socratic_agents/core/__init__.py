"""The loop and the values that it passes around; nothing here knows of torch, LangChain, threads or files."""
