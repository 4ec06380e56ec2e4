"""Dynamic batching: one worker thread per device forms batches from many refinements."""
