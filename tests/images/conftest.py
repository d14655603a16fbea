"""The service's image answers with the same small model as the service's own tests."""

from served_model import flatbuffer, write_model

__all__ = ["flatbuffer", "write_model"]
