"""Assembly: pipelines put together from what people have, file by file."""
