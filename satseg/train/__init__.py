"""Training of a model, from the configuration to the report."""
