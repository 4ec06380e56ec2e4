"""From settings to a running refiner: models are opened, agents built, all closed again."""
