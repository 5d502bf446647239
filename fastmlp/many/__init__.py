"""Many nets: cross-validation and ensembles, on threads or other backends."""
