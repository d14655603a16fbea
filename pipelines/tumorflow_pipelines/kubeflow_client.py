"""Kubeflow Pipelines, asked through its generated API; every refusal as one message."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tumorflow.errors import UsageError
from tumorflow_pipelines.kubeflow_connection import NAMESPACE, Connection, api_client
from tumorflow_pipelines.kubeflow_refusals import explain_answer, explain_network, explain_status

TIMEOUT_SECONDS = (10, 60)  # to connect, to answer
PAGE_SIZE = 100


class Kubeflow:
    """The few things that tumorflow asks of Kubeflow Pipelines.

    Raises, in every method:
        UnavailableError: the server is away, slow or broken: another try may help.
        UsageError: it refuses: another try will not.
    """

    def __init__(self, connection: Connection) -> None:
        import kfp_server_api as api

        self.connection = connection
        self._client = api_client(connection)
        self._experiments = api.ExperimentServiceApi(self._client)
        self._pipelines = api.PipelineServiceApi(self._client)
        self._uploads = api.PipelineUploadServiceApi(self._client)
        self._runs = api.RunServiceApi(self._client)
        self._recurring = api.RecurringRunServiceApi(self._client)
        self._health = api.HealthzServiceApi(self._client)
        self.namespace: str | None = None

    def greet(self) -> str:
        """Returns the server's version, empty where it does not tell, and learns whether it has namespaces.

        Raises:
            UsageError: the server has no v2 API, or serves many users and no namespace was given.
        """
        reply = self._call(
            "ask for its version",
            self._health.healthz_service_get_healthz,
            missing_ok=True,
        )
        if reply is None:
            raise UsageError(
                "Kubeflow Pipelines speaks its API v2beta1, which version 2 brought. Received: 404 from "
                f"{self.connection.place}. Give --host the API's own address (often ending in /pipeline), or "
                "update the server."
            )
        told = json.loads(self._client.last_response.data)  # the models leave its version out
        if reply.multi_user and not self.connection.namespace:
            raise UsageError(
                "This Kubeflow serves many users, each in a namespace. Received: no namespace. Name yours "
                f"by --namespace, {NAMESPACE} or cluster.namespace."
            )
        self.namespace = self.connection.namespace if reply.multi_user else None
        return str(told.get("tag_name", ""))

    def find_experiment(self, name: str) -> Any | None:
        """Returns the experiment called `name`, or None."""
        found = self._list(
            "list experiments",
            self._experiments.experiment_service_list_experiments,
            "experiments",
            filter=named(name),
            **self._in_namespace(),
        )
        return next((entry for entry in found if entry.display_name == name), None)

    def experiment_names(self) -> list[str]:
        """Returns the names of all experiments."""
        found = self._list(
            "list experiments",
            self._experiments.experiment_service_list_experiments,
            "experiments",
            **self._in_namespace(),
        )
        return [entry.display_name for entry in found]

    def create_experiment(self, name: str, description: str) -> Any:
        """Returns a new experiment."""
        from kfp_server_api import V2beta1Experiment

        return self._call(
            f"make the experiment '{name}'",
            self._experiments.experiment_service_create_experiment,
            V2beta1Experiment(display_name=name, description=description, namespace=self.namespace),
        )

    def find_pipeline(self, name: str) -> Any | None:
        """Returns the pipeline called `name`, or None."""
        found = self._list(
            "list pipelines",
            self._pipelines.pipeline_service_list_pipelines,
            "pipelines",
            filter=named(name),
            **self._in_namespace(),
        )
        return next((entry for entry in found if entry.display_name == name), None)

    def create_pipeline(self, name: str, description: str) -> Any:
        """Returns a new pipeline, without a version."""
        from kfp_server_api import V2beta1Pipeline

        return self._call(
            f"make the pipeline '{name}'",
            self._pipelines.pipeline_service_create_pipeline,
            V2beta1Pipeline(name=name, display_name=name, description=description, namespace=self.namespace),
        )

    def find_version(self, pipeline_id: str, name: str) -> Any | None:
        """Returns the version called `name` of a pipeline, or None."""
        found = self._list(
            "list a pipeline's versions",
            self._pipelines.pipeline_service_list_pipeline_versions,
            "pipeline_versions",
            pipeline_id,
            filter=named(name),
        )
        return next((entry for entry in found if entry.display_name == name), None)

    def upload_version(self, pipeline_id: str, name: str, definition: Path, description: str) -> Any:
        """Returns a new version of a pipeline."""
        return self._call(
            "upload a pipeline version",
            self._uploads.upload_pipeline_version,
            str(definition),
            name=name,
            pipelineid=pipeline_id,
            description=description,
        )

    def definition_of(self, run: Any) -> dict[str, Any]:
        """Returns the definition that a run was started with, empty where it is gone."""
        spec, reference = run.pipeline_spec, run.pipeline_version_reference
        if not spec and reference:
            version = self._call(
                "read a pipeline version",
                self._pipelines.pipeline_service_get_pipeline_version,
                reference.pipeline_id,
                reference.pipeline_version_id,
                missing_ok=True,
            )
            spec = version.pipeline_spec if version else None
        return spec.get("pipeline_spec", spec) if isinstance(spec, dict) else {}

    def create_run(self, run: Any) -> Any:
        """Returns the run, started."""
        return self._call("start a run", self._runs.run_service_create_run, run)

    def find_runs(self, experiment_id: str, name: str) -> list[Any]:
        """Returns the runs called `name` in an experiment: names are not unique."""
        found = self._list(
            "list runs",
            self._runs.run_service_list_runs,
            "runs",
            experiment_id=experiment_id,
            filter=named(name),
            **self._in_namespace(),
        )
        return [entry for entry in found if entry.display_name == name]

    def get_run(self, run_id: str) -> Any:
        """Returns a run with its tasks."""
        found = self._call("read a run", self._runs.run_service_get_run, run_id, missing_ok=True)
        if found is None:
            raise UsageError(
                f"A run is named by its id. Received: '{run_id}', unknown to {self.connection.place}. "
                "List the last ones: tumorflow status"
            )
        return found

    def last_runs(self, count: int) -> list[Any]:
        """Returns the newest runs, newest first."""
        reply = self._call(
            "list runs",
            self._runs.run_service_list_runs,
            page_size=count,
            sort_by="created_at desc",
            **self._in_namespace(),
        )
        return list(reply.runs or [])

    def recurring_runs(self) -> list[Any]:
        """Returns every recurring run."""
        return list(
            self._list(
                "list recurring runs",
                self._recurring.recurring_run_service_list_recurring_runs,
                "recurring_runs",
                **self._in_namespace(),
            )
        )

    def create_recurring_run(self, recurring: Any) -> Any:
        """Returns the recurring run, as the server keeps it."""
        return self._call(
            "make a recurring run", self._recurring.recurring_run_service_create_recurring_run, recurring
        )

    def enable_recurring_run(self, recurring_id: str) -> None:
        """Lets a recurring run start runs."""
        self._call(
            "enable a recurring run",
            self._recurring.recurring_run_service_enable_recurring_run,
            recurring_id,
        )

    def delete_recurring_run(self, recurring_id: str) -> None:
        """Removes a recurring run; its runs stay. One that is gone already is no fault."""
        self._call(
            "delete a recurring run",
            self._recurring.recurring_run_service_delete_recurring_run,
            recurring_id,
            propagation_policy="ORPHAN",  # else Kubernetes would delete its runs, even one under way
            missing_ok=True,
        )

    def _in_namespace(self) -> dict[str, Any]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _list(
        self, action: str, method: Callable[..., Any], field: str, *arguments: Any, **settings: Any
    ) -> Iterator[Any]:
        """Yields the entries of every page."""
        token = ""
        while True:
            reply = self._call(action, method, *arguments, page_size=PAGE_SIZE, page_token=token, **settings)
            yield from getattr(reply, field) or []
            token = reply.next_page_token or ""
            if not token:
                return

    def _call(
        self,
        action: str,
        method: Callable[..., Any],
        *arguments: Any,
        missing_ok: bool = False,
        **settings: Any,
    ) -> Any:
        """Returns the reply; None for what is not there, where that is no fault."""
        import urllib3
        from kfp_server_api import ApiException

        try:
            reply = method(*arguments, **settings, _request_timeout=TIMEOUT_SECONDS)
        except ApiException as error:
            if error.status == 404 and missing_ok:
                return None
            raise explain_status(error, action, self.connection.place, self.namespace) from error
        except urllib3.exceptions.HTTPError as error:
            raise explain_network(error, self.connection.place) from error
        except (ValueError, TypeError, AttributeError) as error:  # the generated code's, of a strange answer
            raise explain_answer(type(error).__name__, self.connection.place) from error
        kind = self._client.last_response.getheader("content-type", "")
        if "json" not in kind:
            raise explain_answer(kind or "nothing", self.connection.place)
        return reply


def connected(connection: Connection) -> Kubeflow:
    """Returns Kubeflow Pipelines, once it has answered; says so where its version is another than ours.

    Raises:
        UsageError: the server is of another major version.
    """
    from kfp import __version__ as own

    kubeflow = Kubeflow(connection)
    version = kubeflow.greet()
    theirs, ours = release_of(version), release_of(own)
    if theirs and theirs[0] != ours[0]:
        raise UsageError(
            f"Kubeflow Pipelines is of version {ours[0]}. Received: {version} at {connection.place}. "
            f"Update the server to {own}."
        )
    if theirs and theirs != ours:
        told = "it may overlook newer settings" if theirs < ours else "it should take what this sends"
        print(
            f"note: the server is Kubeflow Pipelines {version}, this was made for {own}: {told}", flush=True
        )
    return kubeflow


def release_of(version: str) -> tuple[int, ...]:
    """Returns major and minor of a version; nothing for a text that is none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def named(name: str) -> str:
    """Returns the filter for one display name, in the form that Kubeflow's API takes."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})
