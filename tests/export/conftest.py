from served_model import flatbuffer

__all__ = ["flatbuffer"]  # for the tests here
