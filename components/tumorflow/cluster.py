"""The cluster's settings: images, resources, secrets and where pods may run. Whatever is empty is not set."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from tumorflow import __version__
from tumorflow.chain import ALL_STEPS

ImageKind = Literal["light", "tensorflow"]
Cpu = Annotated[
    str,
    BeforeValidator(lambda value: f"{value:g}" if type(value) in (int, float) else value),
    Field(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$"),
]
"""YAML and `--set` read 1 and 0.5 as numbers."""
Memory = Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi|Ti|K|M|G|T)$")]
Count = Annotated[int, Field(ge=0, le=1000)]
LONGEST_SECONDS = 30 * 86400
Seconds = Annotated[int, Field(ge=0, le=LONGEST_SECONDS)]
Image = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$")]
KubernetesName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]
TASKS: dict[str, ImageKind] = {
    **{step.name: step.image for step in ALL_STEPS},
    **dict.fromkeys(("resolve", "conclude", "halt", "finish"), "light"),
}
"""Every task of a pipeline, steps and book-keeping, and the kind of its image."""


class ClusterSection(BaseModel):
    """What every part of the section shares: frozen and strict."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Images(ClusterSection):
    """The images of the steps, best by digest: `registry/tumorflow-light@sha256:…`."""

    light: Image = f"localhost/tumorflow-light:{__version__}"
    tensorflow: Image = f"localhost/tumorflow-tensorflow:{__version__}"


class Toleration(ClusterSection):
    """A taint that a pod tolerates, as Kubernetes words it."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @model_validator(mode="after")
    def _check_operator(self) -> "Toleration":
        if not self.key and self.operator != "Exists":
            raise ValueError("a toleration without a key has the operator Exists")
        return self


class Needs(ClusterSection):
    """What a step's pod asks for. A limit of time of 0 seconds is none."""

    cpu_request: Cpu = "1"
    cpu_limit: Cpu = "4"
    memory_request: Memory = "2Gi"
    memory_limit: Memory = "4Gi"
    gpus: Count = 0
    timeout_seconds: Seconds = 6 * 3600
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @field_validator("tolerations", mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class TensorflowNeeds(Needs):
    """What a step asks for that runs TensorFlow."""

    cpu_request: Cpu = "2"
    cpu_limit: Cpu = "8"
    memory_request: Memory = "4Gi"
    memory_limit: Memory = "8Gi"
    timeout_seconds: Seconds = 24 * 3600


class NeedsOfStep(ClusterSection):
    """What one step asks for in the place of what its image's kind does; what is not given stays."""

    cpu_request: Cpu | None = None
    cpu_limit: Cpu | None = None
    memory_request: Memory | None = None
    memory_limit: Memory | None = None
    gpus: Count | None = None
    timeout_seconds: Seconds | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None

    @field_validator("tolerations", mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Resources(ClusterSection):
    """What pods ask for: by the kind of their image, and step by step where one needs something else."""

    light: Needs = Needs()
    tensorflow: TensorflowNeeds = TensorflowNeeds()
    steps: Mapping[str, NeedsOfStep] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_steps(self) -> "Resources":
        if unknown := sorted(set(self.steps) - set(TASKS)):
            raise ValueError(f"steps are among {', '.join(TASKS)}; not {', '.join(unknown)}")
        for name, kind in TASKS.items():
            needs = self.of(name, kind)
            if to_number(needs.cpu_request) > to_number(needs.cpu_limit):
                raise ValueError(f"{name}: cpu_request is at most cpu_limit")
            if to_number(needs.memory_request) > to_number(needs.memory_limit):
                raise ValueError(f"{name}: memory_request is at most memory_limit")
        return self

    def of(self, step: str, kind: ImageKind) -> Needs:
        """Returns what a step's pod asks for."""
        base = self.light if kind == "light" else self.tensorflow
        own = self.steps.get(step, NeedsOfStep())
        return base.model_copy(update={name: value for name, value in own if value is not None})


def to_number(quantity: str) -> float:
    """Returns a Kubernetes quantity as a number: `500m` is 0.5, `2Gi` is 2147483648."""
    factors = {"": 1, "m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    factors |= {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    digits = quantity.rstrip("mKMGTi")
    return float(digits) * factors[quantity[len(digits) :]]


class Retries(ClusterSection):
    """How often Kubeflow starts a pod again that failed, and how long it waits before that."""

    count: Annotated[int, Field(ge=0, le=10)] = 3
    backoff_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    factor: Annotated[int, Field(ge=1, le=10)] = 2
    """Each wait is this many times the one before."""


class SecretEnv(ClusterSection):
    """A Kubernetes Secret in the namespace of the runs, and which of its keys become which variables."""

    name: KubernetesName = ""
    keys: Mapping[str, str] = Field(default_factory=dict)
    """Environment variable → key of the Secret."""

    @model_validator(mode="after")
    def _check_keys(self) -> "SecretEnv":
        if self.name and not self.keys:
            raise ValueError("a Secret that is named gives at least one of its keys")
        return self


class MlflowSecret(SecretEnv):
    """Who a step is to MLflow."""

    keys: Mapping[str, str] = Field(
        default={"MLFLOW_TRACKING_USERNAME": "username", "MLFLOW_TRACKING_PASSWORD": "password"}
    )


class S3Secret(SecretEnv):
    """Who a step is to the store of sources."""

    keys: Mapping[str, str] = Field(
        default={
            "AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
        }
    )


class PseudonymSecret(SecretEnv):
    """The key under which patients become pseudonyms."""

    keys: Mapping[str, str] = Field(default={"TUMORFLOW_PSEUDONYM_KEY": "key"})


class Secrets(ClusterSection):
    """The Secrets that steps read. None of their contents is here."""

    mlflow: MlflowSecret = MlflowSecret()
    s3: S3Secret = S3Secret()
    pseudonym: PseudonymSecret = PseudonymSecret()


class SourceVolume(ClusterSection):
    """A PersistentVolumeClaim with a source's files, for the steps that read sources."""

    claim: KubernetesName = ""
    mount_path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")] = "/sources"


class ClusterParams(ClusterSection):
    """Where and how a submitted run works."""

    namespace: KubernetesName = ""
    service_account: KubernetesName = ""
    images: Images = Images()
    require_digests: bool = False
    """Refuse to submit what names an image by a tag, which may come to mean another image."""
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[KubernetesName, ...] = ()
    resources: Resources = Resources()
    gpu_resource: str = "nvidia.com/gpu"
    retries: Retries = Retries()
    mlflow_tracking_uri: str = ""
    """MLflow's address as a pod sees it."""
    s3_endpoint_url: str = ""
    s3_region: str = ""
    secrets: Secrets = Secrets()
    source_volume: SourceVolume = SourceVolume()

    @field_validator("image_pull_secrets", mode="before")
    @classmethod
    def _accept_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("mlflow_tracking_uri", "s3_endpoint_url", "s3_region", mode="before")
    @classmethod
    def _accept_nothing(cls, value: Any) -> Any:
        return "" if value is None else value  # as `--set cluster.s3_endpoint_url=` is read

    @field_validator("mlflow_tracking_uri", "s3_endpoint_url")
    @classmethod
    def _refuse_credentials(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("an address without user and password; those belong into a Secret")
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("an address that begins with http:// or https://")
        return value

    def image(self, kind: ImageKind) -> str:
        """Returns the image of a kind of step."""
        return self.images.light if kind == "light" else self.images.tensorflow

    def needs(self, step: str, kind: ImageKind) -> Needs:
        """Returns what a step's pod asks for."""
        return self.resources.of(step, kind)

    def without_retries(self) -> "ClusterParams":
        """Returns the settings for kfp's local runners, which would sleep through the back-off."""
        return self.model_copy(update={"retries": Retries(count=0)})
