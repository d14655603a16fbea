"""Keyed pseudonyms for patients and UIDs."""

import hashlib
import hmac
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Identity:
    """Whose slice it is, as the source says. It never leaves ingestion."""

    patient_id: str
    issuer: str
    study_uid: str
    series_uid: str
    sop_uid: str
    frame_of_reference_uid: str

    def of_frame(self, frame: int) -> "Identity":
        """Returns the identity of one frame of a multi-frame image, as if it were an instance of its own."""
        return replace(self, sop_uid=f"{self.sop_uid}#{frame}")


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed pseudonyms: the same original gives the same one, and none can be made without the key."""

    key: bytes

    def uid(self, original: str) -> str:
        """Returns a UID below 2.25 (DICOM PS3.5 B.2) from 128 bits of an HMAC."""
        return f"2.25.{int.from_bytes(self._digest('uid', original)[:16], 'big')}"

    def patient(self, identity: Identity) -> str:
        """Returns `P-` and 16 hexadecimal digits.

        Where the Patient ID is empty the study stands for the patient: slices of one study stay together.
        """
        if not identity.patient_id:
            return self._short("study as patient", identity.study_uid)
        return self._short("patient", f"{identity.issuer}\0{identity.patient_id}")

    def _short(self, purpose: str, original: str) -> str:
        return f"P-{self._digest(purpose, original).hex()[:16]}"

    def _digest(self, purpose: str, original: str) -> bytes:
        # surrogates stand for bytes that no character set explains
        message = f"{purpose}\0{original}".encode(errors="surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).digest()
