"""What the manifests promise: valid, restricted, bounded, without secrets, whole."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = ["overlays/local", "overlays/cloud"]
FOLDERS = ["base", *OVERLAYS]
KUBERNETES = ["1.30", "1.37"]  # the oldest with all that is used, and the newest
NAME = "app.kubernetes.io/name"
SERVERS = {"tumorflow-mlflow": 5000, "tumorflow-postgres": 5432, "tumorflow-s3": 8333}


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Yields what makes pods, and its pod template."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "CronJob"}:
            spec = manifest["spec"]
            yield manifest, (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def secrets_read(template: Manifest) -> Iterator[tuple[str, str | None]]:
    """Yields each Secret that a pod refers to, and the key if it names one."""
    for container in containers(template):
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield source["secretRef"]["name"], None
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield reference["name"], reference["key"]
    for volume in template["spec"].get("volumes", []):
        if "secret" in volume:
            yield volume["secret"]["secretName"], None


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_fits_the_schema(rendered: Rendered, folder: str, version: str) -> None:
    manifests = rendered(folder)
    assert len(manifests) > 10
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_pod_is_restricted(rendered: Rendered, folder: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    for owner, template in pod_templates(rendered(folder)):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] != "default"
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"]["drop"] == ["ALL"]
        if owner["metadata"]["namespace"] == "tumorflow":
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            assert not [name for volume in pod["volumes"] for name in volume if name == "hostPath"]
            assert all(
                set(container["securityContext"])
                == {
                    "allowPrivilegeEscalation",
                    "readOnlyRootFilesystem",
                    "capabilities",
                }
                and set(container["securityContext"]["capabilities"]) == {"drop"}
                for container in containers(template)
            )


def test_root_is_used_once_for_the_folders_and_nothing_else(rendered: Rendered) -> None:
    manifests = rendered("overlays/local")
    (owner,) = of_kind(manifests, "DaemonSet")
    assert owner["metadata"]["namespace"] == "tumorflow-storage"
    (container,) = owner["spec"]["template"]["spec"]["initContainers"]
    assert container["securityContext"]["runAsUser"] == 0
    assert container["securityContext"]["capabilities"]["add"] == ["CHOWN", "FOWNER"]
    assert not list(secrets_read(owner["spec"]["template"]))


def test_the_folders_belong_to_the_users_that_use_them(rendered: Rendered) -> None:
    manifests = rendered("overlays/local")
    (owner,) = of_kind(manifests, "DaemonSet")
    (root,) = (volume["hostPath"]["path"] for volume in owner["spec"]["template"]["spec"]["volumes"])
    script = owner["spec"]["template"]["spec"]["initContainers"][0]["command"][-1]
    owners = {
        f"{root}/{folder}": (int(user), int(group))
        for user, group, folder in re.findall(r"-o (\d+) -g (\d+) /host/(\w+)", script)
    }
    volumes = {
        volume["metadata"]["name"]: volume["spec"] for volume in of_kind(manifests, "PersistentVolume")
    }
    claims = {
        claim["metadata"]["name"]: claim["spec"] for claim in of_kind(manifests, "PersistentVolumeClaim")
    }
    used = {}
    for server in of_kind(manifests, "StatefulSet"):
        pod = server["spec"]["template"]["spec"]
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = claims[volume["persistentVolumeClaim"]["claimName"]]
                bound = volumes[claim["volumeName"]]
                assert bound["claimRef"]["name"] == volume["persistentVolumeClaim"]["claimName"]
                assert claim["storageClassName"] == bound["storageClassName"] == ""
                assert claim["accessModes"] == bound["accessModes"]
                assert claim["resources"]["requests"]["storage"] == bound["capacity"]["storage"]
                assert bound["persistentVolumeReclaimPolicy"] == "Retain"
                used[bound["hostPath"]["path"]] = (
                    pod["securityContext"]["runAsUser"],
                    pod["securityContext"]["runAsGroup"],
                )
    assert used == owners


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_container_is_bounded_and_every_server_is_probed(rendered: Rendered, folder: str) -> None:
    for owner, template in pod_templates(rendered(folder)):
        for container in containers(template):
            for bound in ("requests", "limits"):
                assert set(container["resources"][bound]) == {"cpu", "memory"}, container["name"]
        for volume in template["spec"]["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": None})
        if owner["kind"] in {"Deployment", "StatefulSet"}:
            for container in template["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_named_by_an_exact_version(rendered: Rendered, folder: str) -> None:
    for _, template in pod_templates(rendered(folder)):
        for container in containers(template):
            name, _, tag = container["image"].rpartition(":")
            assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-\w+)?", tag), container["image"]
            assert "/" in name, f"{container['image']} names no registry"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_secret_is_in_the_manifests(rendered: Rendered, folder: str) -> None:
    manifests = rendered(folder)
    assert not of_kind(manifests, "Secret")
    for _, template in pod_templates(manifests):
        for container in containers(template):
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|_KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"]
    for manifest in of_kind(manifests, "ConfigMap"):
        assert not [key for key in manifest["data"] if re.search("PASSWORD|SECRET|ACCESS_KEY", key)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_reference_names_something_that_is_there(rendered: Rendered, folder: str) -> None:
    manifests = rendered(folder)
    there = {
        (manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
        for manifest in manifests
    }
    made_by_bootstrap = {"tumorflow-database-ca"}
    for owner, template in pod_templates(manifests):
        namespace = owner["metadata"]["namespace"]
        assert ("ServiceAccount", namespace, template["spec"]["serviceAccountName"]) in there
        mounted = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for container in containers(template):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(mounted)
            named = [
                source["configMapRef"]["name"]
                for source in container.get("envFrom", [])
                if "configMapRef" in source
            ]
            named += [
                variable["valueFrom"]["configMapKeyRef"]["name"]
                for variable in container.get("env", [])
                if "configMapKeyRef" in variable.get("valueFrom", {})
            ]
            assert all(("ConfigMap", namespace, name) in there for name in named)
        for volume in template["spec"]["volumes"]:
            name = volume.get("configMap", {}).get("name")
            assert name is None or name in made_by_bootstrap or ("ConfigMap", namespace, name) in there
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or ("PersistentVolumeClaim", namespace, claim) in there


@pytest.mark.parametrize("folder", FOLDERS)
def test_services_and_budgets_meet_their_pods(rendered: Rendered, folder: str) -> None:
    manifests = rendered(folder)
    pods = {template["metadata"]["labels"][NAME]: template for _, template in pod_templates(manifests)}
    for service in of_kind(manifests, "Service"):
        template = pods[service["spec"]["selector"][NAME]]
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        (port,) = service["spec"]["ports"]
        assert ports[port["targetPort"]] == port["port"] == SERVERS[service["metadata"]["name"]]
    budgets = of_kind(manifests, "PodDisruptionBudget")
    servers = [
        owner for owner, _ in pod_templates(manifests) if owner["kind"] in {"Deployment", "StatefulSet"}
    ]
    assert {budget["spec"]["selector"]["matchLabels"][NAME] for budget in budgets} == {
        server["spec"]["selector"]["matchLabels"][NAME] for server in servers
    }
    # a budget that keeps the only replica would hold up every drain
    assert all(
        budget["spec"]["maxUnavailable"] == 1 and "minAvailable" not in budget["spec"] for budget in budgets
    )


def test_rights_are_few(rendered: Rendered) -> None:
    for folder in FOLDERS:
        manifests = rendered(folder)
        assert not of_kind(manifests, "ClusterRole")
        assert not of_kind(manifests, "ClusterRoleBinding")
        (role,) = of_kind(manifests, "Role")
        for rule in role["rules"]:
            assert rule["apiGroups"] == ["pipelines.kubeflow.org"]
            assert "*" not in {*rule["resources"], *rule["verbs"]}
        assert all(
            account["automountServiceAccountToken"] is False
            for account in of_kind(manifests, "ServiceAccount")
        )


def test_each_namespace_of_ours_enforces_a_pod_security_standard(rendered: Rendered) -> None:
    levels = {
        namespace["metadata"]["name"]: namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for namespace in of_kind(rendered("overlays/local"), "Namespace")
    }
    assert levels == {"tumorflow": "restricted", "tumorflow-storage": "privileged"}


def test_a_site_fills_in_one_file_and_the_ingress_follows(rendered: Rendered) -> None:
    manifests = rendered("overlays/cloud")
    (ingress,) = of_kind(manifests, "Ingress")
    (site,) = (
        m["data"]
        for m in of_kind(manifests, "ConfigMap")
        if m["metadata"]["name"].startswith("tumorflow-site")
    )
    assert ingress["spec"]["rules"][0]["host"] == ingress["spec"]["tls"][0]["hosts"][0] == site["PUBLIC_HOST"]
    (deployment,) = of_kind(manifests, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    names = [variable["name"] for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    # Kubernetes expands $(PUBLIC_HOST) only in what comes after it
    assert names.index("PUBLIC_HOST") < names.index("MLFLOW_SERVER_ALLOWED_HOSTS")
    assert names.index("PUBLIC_HOST") < names.index("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS")
