"""A trained net as something else: a NumPy module, an ONNX model, a model of PyTorch, Keras or scikit-learn."""
