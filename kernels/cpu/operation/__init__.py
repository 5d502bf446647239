"""The operations on plain arrays, for anybody's code: `kernels.cpu` has their names."""
