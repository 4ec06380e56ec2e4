"""llama.cpp's own server with one model; says where it listens, and ends with stdin.

In a process of its own: whatever happens in there, the tests go on.
"""

from __future__ import annotations

import sys

CONTEXT = 4096
"""Tokens of a request and its answer together."""


def main(model: str) -> None:
    """Serve a model until stdin is closed, one request at a time, in one thread.

    Args:
        model: A GGUF file.
    """
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx, parameters.n_parallel = CONTEXT, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.sampling.seed = 1  # each answer is the same every time
    # Without it, a model as small as this goes round in circles.
    parameters.sampling.penalty_repeat = 1.1
    parameters.verbosity, parameters.ui = -1, False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)  # noqa: T201 - who started it reads that
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
