"""The method: memory, blocks, loss and training loop, with schedules, recipes, checkpoints and callbacks."""
