"""What a request gets that cannot be answered: problem details (RFC 9457), with a rule and never a value."""

from typing import Any

from tumorflow.errors import TumorflowError

MEDIA_TYPE = "application/problem+json"


class ProblemError(TumorflowError):
    """A request is refused as a whole.

    `rule` is a short stable code; `status` the answer's; `retry_after_s` when it is worth asking again.
    """

    def __init__(self, status: int, rule: str, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.rule = rule
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker process hands it on, and its text alone would not make it again
        return type(self), (self.status, self.rule, self.detail, self.retry_after_s), {"more": self.more}

    def with_refused(self, refused: list[dict[str, Any]]) -> "ProblemError":
        """Returns the problem, which lists the files that were refused too."""
        self.more = {"refused": refused}
        return self


def describe(status: int, rule: str, detail: str, request_id: str, **more: Any) -> dict[str, Any]:
    """Returns the problem as it is sent."""
    from http import HTTPStatus

    about = {"title": HTTPStatus(status).phrase, "status": status, "rule": rule, "detail": detail}
    return {**about, "request_id": request_id, **more}
