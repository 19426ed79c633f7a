"""Training a model, from the configuration to the report."""
