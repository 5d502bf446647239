"""Rows on their way to the kernels, from memory, a file or the shards of many MPI ranks that train one net."""
