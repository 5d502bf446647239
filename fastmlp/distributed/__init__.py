"""One net trained by many MPI ranks."""
