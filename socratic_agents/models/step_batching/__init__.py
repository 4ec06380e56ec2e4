"""Step batching (experimental): images at different steps share calls of the denoiser."""
