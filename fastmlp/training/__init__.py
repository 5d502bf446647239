"""A training from call to model: options, the run, and what observes it; Rosenblatt's perceptron."""
