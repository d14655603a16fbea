"""Sends DICOM objects to an archive: STOW-RS (DICOM PS3.18 10.5), which Orthanc and others speak."""

import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tumorflow.errors import ParameterError
from tumorflow.serving.outgoing import ask
from tumorflow.serving.problems import ProblemError

AUTHORIZATION = "TUMORFLOW_PACS_AUTHORIZATION"
PATIENCE_S = 30.0
LARGEST_ANSWER = 2**20


@dataclass(frozen=True)
class Archive:
    """Where results are sent to."""

    url: str
    """Of its DICOMweb service, as in http://pacs:8042/dicom-web."""
    authorization: str = ""
    """The header's value."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or "@" in self.url:
            raise ParameterError(
                "--pacs is the http(s) address of a DICOMweb service, without a password. Received: another "
                f"thing. Put the header's value into {AUTHORIZATION}."
            )

    def store(self, objects: Sequence[bytes]) -> None:
        """Returns when the archive has taken the objects.

        Raises:
            ProblemError: it cannot be reached, or refused one.
        """
        boundary = uuid.uuid4().hex
        body = b"".join(
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + each + b"\r\n"
            for each in objects
        )
        request = urllib.request.Request(  # noqa: S310 - its scheme is checked above
            f"{self.url.rstrip('/')}/studies", body + f"--{boundary}--\r\n".encode(), method="POST"
        )
        request.add_header(
            "Content-Type", f'multipart/related; type="application/dicom"; boundary={boundary}'
        )
        request.add_header("Accept", "application/dicom+json")
        if self.authorization:
            request.add_header("Authorization", self.authorization)
        try:
            status, _ = ask(request, PATIENCE_S, LARGEST_ANSWER)
        except OSError as error:
            raise self._away(type(error).__name__) from error
        if status != 200:  # 202: some were refused
            raise self._away(f"status {status}")

    def _away(self, received: str) -> ProblemError:
        return ProblemError(
            502,
            "archive_away",
            f"The archive takes the results. Received: {received}. Ask without `push`, or look at it.",
            retry_after_s=30,
        )
