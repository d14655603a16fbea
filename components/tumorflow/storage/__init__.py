"""Where data live: folders, S3 and DVC. The only code that knows boto3 and dvc."""

from tumorflow.storage.content import hash_source
from tumorflow.storage.reading import Reading, fetched
from tumorflow.storage.versions import ResolvedSource, resolve

__all__ = ["Reading", "ResolvedSource", "fetched", "hash_source", "resolve"]
