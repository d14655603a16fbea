"""Which pods the network lets talk to which."""

from collections.abc import Callable
from typing import Any

import pytest

Manifest = dict[str, Any]
Rendered = Callable[[str], list[Manifest]]

FOLDERS = ["base", "overlays/local", "overlays/cloud"]
NAME = "app.kubernetes.io/name"
SERVERS = {"tumorflow-mlflow": 5000, "tumorflow-postgres": 5432, "tumorflow-s3": 8333}


def policies_of(manifests: list[Manifest]) -> list[Manifest]:
    return [
        manifest
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy" and manifest["metadata"]["namespace"] == "tumorflow"
    ]


def allows(policies: list[Manifest], source: str, target: str, port: int) -> bool:
    """Whether pods of two names of the namespace may talk: out of the one and into the other.

    `run` is a pod of a Kubeflow run, which no policy of ours governs.
    """

    def selects(selector: Manifest, name: str) -> bool:
        labels = {NAME: name}
        wanted = selector.get("matchLabels", {}).items()
        return all(labels.get(key) == value for key, value in wanted) and all(
            labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", [])
        )

    def names(peer: Manifest, name: str) -> bool:
        if "namespaceSelector" in peer:
            run = {"matchExpressions": [{"key": "pipeline/runid", "operator": "Exists"}]}
            return (
                name == "run"
                and peer["podSelector"] == run
                and peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}
            )
        return name != "run" and "podSelector" in peer and selects(peer["podSelector"], name)

    def passes(direction: str, key: str, governed: str, other: str) -> bool:
        return any(
            {"protocol": "TCP", "port": port} in rule["ports"]
            and any(names(peer, other) for peer in rule[key])
            for policy in policies
            if selects(policy["spec"]["podSelector"], governed)
            for rule in policy["spec"].get(direction, [])
        )

    out = source == "run" or passes("egress", "to", source, target)
    return out and passes("ingress", "from", target, source)


def test_the_network_lets_through_what_is_needed_and_nothing_else(rendered: Rendered) -> None:
    policies = policies_of(rendered("overlays/local"))
    everyone = ["run", "tumorflow-backup", *SERVERS]
    open_ways = {
        (source, target)
        for source in everyone
        for target, port in SERVERS.items()
        if source != target and allows(policies, source, target, port)
    }
    assert open_ways == {
        ("run", "tumorflow-mlflow"),
        ("run", "tumorflow-s3"),
        ("tumorflow-mlflow", "tumorflow-postgres"),
        ("tumorflow-mlflow", "tumorflow-s3"),
        ("tumorflow-backup", "tumorflow-postgres"),
        ("tumorflow-backup", "tumorflow-s3"),
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_network_is_closed_by_default_and_names_can_be_looked_up(rendered: Rendered, folder: str) -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in policies_of(rendered(folder))}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (rule,) = policies["allow-dns"]["egress"]
    assert policies["allow-dns"]["podSelector"] == {}
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}
