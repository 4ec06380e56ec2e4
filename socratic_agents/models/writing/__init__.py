"""Writing: the language model within a captioner, asked in batches as a chat model is."""
