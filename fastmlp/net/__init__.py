"""The model: MLP, its history, its files, its first weights."""
