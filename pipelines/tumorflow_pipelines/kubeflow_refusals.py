"""What to say where Kubeflow Pipelines refuses, or does not answer."""

import json
from typing import Any
from urllib.parse import urlsplit

from tumorflow.errors import TumorflowError, UnavailableError, UsageError
from tumorflow_pipelines.kubeflow_connection import TOKEN

MESSAGE_CHARACTERS = 300


def explain_answer(received: str, place: str) -> UsageError:
    """Returns what to say of an answer that is not the API's."""
    return UsageError(
        f"Kubeflow Pipelines answers in JSON. Received: {received} from {place}, as of a "
        f"login page or another service. Give {TOKEN} or cookies for the login, and check --host."
    )


def explain_status(error: Any, action: str, place: str, namespace: str | None) -> TumorflowError:
    """Returns what to say of a refusal: `UnavailableError` where another try may help."""
    match error.status:
        case 401:
            return UsageError(
                f"Kubeflow Pipelines asks who you are. Received: 401 from {place}. Give a valid token in "
                f"{TOKEN} or --token-file, or a session's cookies."
            )
        case 403:
            where = f" in namespace '{namespace}'" if namespace else ""
            return UsageError(
                f"You are allowed to {action}{where}. Received: 403 from {place}. Ask the cluster's "
                "administrator for the role kubeflow-pipelines-edit there, or name a namespace of yours."
            )
        case 301 | 302 | 303 | 307 | 308:
            target = urlsplit(str((error.headers or {}).get("location", "")))
            return UsageError(
                f"The API is at --host itself. Received: a redirection from {place} to "
                f"{target.scheme}://{target.hostname}{target.path}. Give a token or cookies if that is a "
                "login page; else that address."
            )
        case status if status == 429 or status >= 500:
            return UnavailableError(
                f"Kubeflow Pipelines can {action}. Received: {status} from {place}{_said(error)}. "
                "Try again later; its pods' logs say why."
            )
        case status:
            return UsageError(
                f"Kubeflow Pipelines agrees to {action}. Received: {status} from {place}{_said(error)}. "
                "Mend what it names."
            )


def explain_network(error: Exception, place: str) -> UnavailableError:
    """Returns what to say where no answer came."""
    import urllib3

    cause = getattr(error, "reason", None) or error
    if isinstance(cause, urllib3.exceptions.SSLError):
        return UnavailableError(
            f"The server proves who it is by a certificate. Received: none from {place} that can be "
            "trusted. Name who signed it by --ca-cert; a server without TLS is reached by http://"
        )
    if isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError):
        return UnavailableError(
            f"Kubeflow Pipelines listens at --host. Received: no connection to {place}. Check address "
            "and network, and that a kubectl port-forward still runs."
        )
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        return UnavailableError(
            f"Kubeflow Pipelines answers within the time allowed. Received: nothing from {place}. "
            "Try again later."
        )
    return UnavailableError(
        f"Kubeflow Pipelines answers what it is asked. Received: a broken connection to {place} "
        f"({type(cause).__name__}). Try again."
    )


def _said(error: Any) -> str:
    """Returns the server's own words, on one line and cut short; empty where there are none."""
    try:
        told = json.loads(error.body or "")
        message = str(told.get("message") or told.get("error_message") or told.get("error") or "")
    except (ValueError, AttributeError):
        return ""
    message = " ".join(message.split())[:MESSAGE_CHARACTERS]
    return f", '{message}'" if message else ""
