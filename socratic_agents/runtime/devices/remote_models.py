"""Remote models: those that the settings name, opened in processes of their own.

The processes are children of this one, or actors of a Ray cluster.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_agents.config.workers import RayWorkers, parse_workers
from socratic_agents.core.errors import ConfigurationError
from socratic_agents.runtime.generators import images_server
from socratic_agents.runtime.image_models import GENERATE, WRITE, ImageModels, guarded
from socratic_agents.runtime.open_models import open_image_models
from socratic_agents.scheduler.remote.pool import ReplicaPool
from socratic_agents.scheduler.remote.processes import ProcessCluster
from socratic_agents.scheduler.remote.ray import RayCluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from socratic_agents.config.settings import Settings
    from socratic_agents.runtime.image_models import CallKind
    from socratic_agents.scheduler.remote.cluster import Cluster
    from socratic_agents.scheduler.worker import Worker

__all__ = ("open_replicas",)


def open_replicas(
    settings: Settings,
    *,
    open_with: Callable[[Settings, Worker], ImageModels] = open_image_models,
) -> ImageModels:
    """Open the models that the settings name in processes of their own; blocks.

    Args:
        settings: What to open, and with which workers.
        open_with: Opens the models within such a process.

    Raises:
        ConfigurationError: If there is no Ray or no room, or a process cannot open
            them.
    """
    if server := images_server(settings):
        message = (
            f"expected a generator that workers can load, got the server {server[0]!r}, "
            "which has its own machines; leave workers out"
        )
        raise ConfigurationError(message)
    workers = parse_workers(settings.workers)
    cluster: Cluster = (
        RayCluster(workers)
        if isinstance(workers, RayWorkers)
        else ProcessCluster(workers, device=settings.device)
    )
    start = partial(cluster.start, _portable(settings), open_with=open_with)
    try:
        replicas = ReplicaPool(cluster, start=start)
    except BaseException:
        cluster.close(())
        raise
    try:
        able = replicas.open(workers.patience)
    except BaseException:
        replicas.close()
        raise

    def call(kind: CallKind[Any]) -> Callable[..., Awaitable[Any]] | None:
        if kind.name not in able.operations:
            return None
        drawing = kind.name == GENERATE.name
        return replicas.generate if drawing else partial(replicas.query, kind.name)

    async def close() -> None:
        await asyncio.to_thread(replicas.close)

    return guarded(
        ImageModels.make(
            call,
            score_name=able.score_name,
            write=replicas.write if WRITE.name in able.operations else None,
            context=able.context,
            max_tokens=able.max_tokens,
            notices=replicas.notices,
            closers=(close,),
        )
    )


def _portable(settings: Settings) -> Settings:
    """Return what the models need of the settings: names and numbers, no secrets."""
    plain = (bool, int, float, str, tuple, list, dict)
    fields = type(settings).model_fields
    left_out = {
        name: fields[name].default
        for name, value in settings
        if name == "workers" or not (value is None or isinstance(value, plain))
    }
    return settings.model_copy(update=left_out)
