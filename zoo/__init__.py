"""Share: names of models and where their weights are."""
