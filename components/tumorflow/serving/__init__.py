"""The service: the champion's answers over HTTP, by LiteRT, without TensorFlow."""
