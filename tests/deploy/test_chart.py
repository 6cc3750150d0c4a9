"""The chart: what it renders and refuses; plain manifests, overlays and examples follow it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import rbdcsi
from e2e import errors
from e2e.release import manifests, programs, schemas
from rbdcsi.cli import serve
from rbdcsi.config import clusters_file
from rbdcsi.config.clusters import Config
from rbdcsi.config.credentials import Credentials
from rbdcsi.config.secret import Secret
from tests.deploy.renderings import (
    EVERYTHING,
    MINIMAL,
    Object,
    by_kind,
    class_that_the_driver_takes,
    rendered,
    sidecars,
)

pytestmark = pytest.mark.timeout(900)  # builds helm and the like when the cache is cold

EXAMPLES = sorted((manifests.ROOT / "deploy/examples").glob("*.yaml"))
VALUES = sorted((manifests.ROOT / "deploy/examples/values").glob("*.yaml"))
OVERLAYS = sorted((manifests.ROOT / "deploy/kubernetes/overlays").iterdir())
# Kubernetes has no schema of these.
FOREIGN = (
    "PodMonitor,ServiceMonitor,PrometheusRule,VolumeSnapshotClass,VolumeSnapshot,"
    "VolumeGroupSnapshotClass,VolumeGroupSnapshot,SnapshotMetadataService"
)

KEY = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcA=="
NODE_KEY = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcQ=="
# The objects of a CephCluster of Rook that the driver reads, with what it needs of them.
ROOK = {
    ("configMap", "rook-ceph-mon-endpoints"): {"data": "a=10.96.0.11:6789,b=10.96.0.12:6789"},
    ("secret", "rook-csi-rbd-provisioner"): {"userID": "csi-rbd-provisioner", "userKey": KEY},
    ("secret", "rook-csi-rbd-node"): {"userID": "csi-rbd-node", "userKey": NODE_KEY},
}


def driver_args(workload: Object) -> list[str]:
    containers = workload["spec"]["template"]["spec"]["containers"]
    (args,) = (each["args"] for each in containers if each["name"] == "driver")
    assert args[0] == "serve"
    return [arg.replace("$(NODE_NAME)", "node-a") for arg in args[1:]]


def mistakes(*files: Path) -> str:
    """Return what Kubernetes' own description of its objects does not know or allow."""
    location = f"{schemas.directory()}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    words = ("-strict", "-skip", FOREIGN, "-schema-location", location)
    argv = [str(word) for word in (programs.built("kubeconform"), *words, *files)]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def checksum(kind: str, *flags: str) -> str:
    (workload,) = rendered(*flags)[kind]
    return str(workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"])


def configurations(directory: Path, *flags: str) -> dict[str, Config]:
    """Return what the driver reads in each Pod: from the Secret that its workload mounts."""
    objects = rendered(*flags)
    secrets = {each["metadata"]["name"]: each.get("stringData", {}) for each in objects["Secret"]}
    found = {}
    for kind in ("StatefulSet", "DaemonSet"):
        (directory / kind).mkdir()
        files = dict(secrets[config_secret(objects[kind][0])])
        for source in config_sources(objects[kind][0])[1:]:
            ((origin, facts),) = source.items()
            data = ROOK[origin, facts["name"]]
            files |= {item["path"]: data[item["key"]] for item in facts["items"]}
        for name, text in files.items():
            (directory / kind / name).write_text(text.replace("/etc/rbdcsi", f"{directory}/{kind}"))
            (directory / kind / name).chmod(0o600)
        found[kind] = clusters_file.load(directory / kind / "config.yaml")
    return found


def config_volume(workload: Object) -> Object:
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    return next(volume for volume in volumes if volume["name"] == "config")


def config_sources(workload: Object) -> list[Object]:
    """Return the objects that are mounted together; none if it is a Secret alone."""
    return list(config_volume(workload).get("projected", {}).get("sources", ()))


def config_secret(workload: Object) -> str:
    sources = config_sources(workload)
    secret = sources[0]["secret"]["name"] if sources else config_volume(workload)["secret"]
    return str(secret if sources else secret["secretName"])


@pytest.mark.parametrize("flags", [MINIMAL, EVERYTHING], ids=["minimal", "everything"])
def test_helm_lint_has_nothing_to_say(flags: tuple[str, ...]) -> None:
    assert "0 chart(s) failed" in manifests.helm("lint", "--strict", str(manifests.CHART), *flags)


def test_committed_manifests_are_those_of_the_chart() -> None:
    assert manifests.PLAIN.read_text() == manifests.plain(), "run `make manifests`"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_overlay_is_valid_and_lets_its_one_node_be_drained(overlay: Path, tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(manifests.kustomized(overlay))
    assert mistakes(file) == ""
    objects = by_kind(file.read_text())
    assert objects["StatefulSet"][0]["spec"]["replicas"] == 1
    assert "PodDisruptionBudget" not in objects


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_claims_of_an_overlays_class_can_grow_as_the_base_has_a_resizer(overlay: Path) -> None:
    objects = by_kind(manifests.kustomized(overlay))
    containers = objects["StatefulSet"][0]["spec"]["template"]["spec"]["containers"]
    assert "resizer" in {each["name"] for each in containers}
    assert all(each["allowVolumeExpansion"] for each in objects.get("StorageClass", ()))


def test_the_tutorial_shows_as_many_containers_as_the_chart_makes() -> None:
    text = (manifests.ROOT / "docs/tutorials/kubernetes.md").read_text()
    shown = set(re.findall(r"^rbdcsi-(controller|node)-\S+ +(\d+)/(\d+) ", text, re.MULTILINE))
    objects = rendered(*MINIMAL)
    made = {
        (role, *(str(len(objects[kind][0]["spec"]["template"]["spec"]["containers"])),) * 2)
        for role, kind in (("controller", "StatefulSet"), ("node", "DaemonSet"))
    }
    assert shown == made


def test_development_overlay_takes_the_mapper_that_needs_no_kernel_module_of_ceph() -> None:
    (development,) = (path for path in OVERLAYS if path.name == "development")
    (workload,) = by_kind(manifests.kustomized(development))["DaemonSet"]
    options = serve.serve.make_context("serve", driver_args(workload)).params
    assert options["mapper"] == "fuse"
    (init,) = workload["spec"]["template"]["spec"]["initContainers"]
    assert init["args"] == ["fuse", "loop"]


def test_kubernetes_knows_every_field_of_chart_and_examples(tmp_path: Path) -> None:
    everything = tmp_path / "everything.yaml"
    everything.write_text(manifests.template(*EVERYTHING))
    assert mistakes(manifests.PLAIN, everything, *EXAMPLES) == ""


@pytest.mark.parametrize("release", ["5", "1e3", "no", "a.b", "a" * 53])
def test_odd_names_of_release_and_namespace_stay_names(release: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(manifests.template(*EVERYTHING, release=release, namespace="0777"))
    assert mistakes(file) == ""
    objects = by_kind(file.read_text())
    for each in (each for of_kind in objects.values() for each in of_kind):
        assert each["metadata"].get("namespace", "0777") in {"0777", "rook-ceph"}
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == release
    for service in objects["Service"]:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", service["metadata"]["name"])


def test_values_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    odd = {
        "existingSecret": "5",
        "image": {"repository": "10", "tag": "20"},
        "storageClasses": [
            {"name": "5", "parameters": {"no": "1e3"}, "annotations": {"a": "no"}, "default": True}
        ],
        "node": {"kernelModules": ["no", "5"], "priorityClassName": "5", "topology": ["5=1e3"]},
        "controller": {"priorityClassName": "1e3", "extraArgs": ["5", "a: b"]},
    }
    values, file = tmp_path / "values.yaml", tmp_path / "odd.yaml"
    values.write_text(json.dumps(odd))
    file.write_text(manifests.template("--values", str(values)))
    assert mistakes(file) == ""
    (node,) = by_kind(file.read_text())["DaemonSet"]
    assert node["spec"]["template"]["spec"]["containers"][0]["image"] == "10:20"
    assert "--topology=5=1e3" in node["spec"]["template"]["spec"]["containers"][0]["args"]
    manifests.helm("lint", "--strict", str(manifests.CHART), "--values", str(values))


def test_misspelt_field_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(manifests.template(*MINIMAL).replace("hostNetwork:", "hostNetworking:"))
    assert "hostNetworking" in mistakes(wrong)


def test_values_without_a_cluster_are_refused_with_what_to_give() -> None:
    with pytest.raises(errors.Failed, match="give `clusters`, or the name of an `existingSecret`"):
        manifests.template()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("node.mapper=loop", "/node/mapper.*must be one of 'auto', 'krbd', 'nbd', 'fuse'"),
        ("node.maper=krbd", "/node.*additional properties 'maper' not allowed"),
        ("controller.replicas=0", "/controller/replicas.*got 0, want 1"),
        ("clusterName=A/b", "/clusterName.*does not match pattern"),
        ("fence=ask", "/fence.*must be one of 'always', 'never'"),
        ("image.digest=sha256:12", "/image/digest.*does not match pattern"),
        ("storageClasses[0].name=a..b", "/storageClasses/0/name.*does not match pattern"),
        ("node.kubeletDir=/var/../kubelet", "/node/kubeletDir.*does not match pattern"),
        ("node.stateDir=/dev", "/node/stateDir"),
        ("controller.storageClassSecrets[0]=a/b/c", "/controller/storageClassSecrets/0"),
        ("controller.storageClassSecrets[0]=a.b/c", "/controller/storageClassSecrets/0"),
        ("controller.resources.limits.memory=much", "/controller/resources/limits/memory"),
    ],
)
def test_wrong_value_is_refused_with_its_place(value: str, words: str) -> None:
    with pytest.raises(errors.Failed, match=words):
        manifests.template(*MINIMAL, "--set", value)


@pytest.mark.parametrize(
    "value",
    [
        "sidecars.provisioner.enabled=true",
        "sidecars.attacher.enabled=true",
        "sidecars.nodeDriverRegistrar.timeout=60s",
        "sidecars.resizer.reconcileSync=1m",
        "monitoring.prometheusRule.interval=30s",
    ],
)
def test_value_that_no_template_reads_is_refused(value: str) -> None:
    name = value.partition("=")[0].rpartition(".")[2]
    with pytest.raises(errors.Failed, match=f"additional properties '{name}' not allowed"):
        manifests.template(*MINIMAL, "--set", value)


@pytest.mark.parametrize("flags", [MINIMAL, EVERYTHING], ids=["minimal", "everything"])
def test_driver_takes_the_flags_that_it_is_started_with(flags: tuple[str, ...]) -> None:
    objects = rendered(*flags)
    for workload in (*objects["StatefulSet"], *objects["DaemonSet"]):
        assert serve.serve.make_context("serve", driver_args(workload)).params["socket"]


def test_clusters_become_a_configuration_that_the_driver_takes(tmp_path: Path) -> None:
    for config in configurations(tmp_path, *EVERYTHING).values():
        main, other = config.clusters
        assert (main.cluster_id, main.rados_namespace) == ("main", "")
        assert (other.pool, other.rados_namespace) == ("rbd", "tenant")


def test_node_plugins_have_a_user_of_their_own_and_never_the_controllers_key(
    tmp_path: Path,
) -> None:
    found = configurations(tmp_path, *EVERYTHING)
    controller, node = (found[kind].clusters[0].credentials() for kind in found)
    assert (controller.user, node.user) == ("rbdcsi-controller", "rbdcsi-node")
    assert controller.key
    for file in (tmp_path / "DaemonSet").iterdir():
        assert controller.key.reveal() not in file.read_text()


def test_one_user_for_both_is_enough(tmp_path: Path) -> None:
    found = configurations(tmp_path, *EVERYTHING)
    controller, node = (found[kind].clusters[1].credentials() for kind in found)
    assert (controller.user, controller.key) == (node.user, node.key)


def test_cluster_without_cephx_needs_no_key(tmp_path: Path) -> None:
    cluster = {"clusterID": "main", "monitors": ["10.0.0.1"], "pool": "rbd", "auth": "none"}
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps({"clusters": [{**cluster, "user": "both", "nodeUser": "nodes"}]}))
    found = configurations(tmp_path, "--values", str(values))
    for config, user in zip(found.values(), ("both", "nodes"), strict=True):
        assert config.clusters[0].credentials() == Credentials(user, None)
    assert not list(tmp_path.rglob("*.key"))


def test_node_user_without_its_key_is_refused() -> None:
    with pytest.raises(errors.Failed, match="nodeKey"):
        manifests.template(*EVERYTHING, "--set", "clusters[1].nodeUser=rbdcsi-node")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_values_for_a_way_to_run_ceph_become_a_configuration(values: Path, tmp_path: Path) -> None:
    found = configurations(tmp_path, "--values", str(values))
    (controller,), (node,) = (config.clusters for config in found.values())
    assert controller.mon_host() == node.mon_host() != ""
    assert controller.credentials().user != node.credentials().user


def test_rooks_monitors_and_keys_are_read_where_rook_keeps_them(tmp_path: Path) -> None:
    (rook,) = (path for path in VALUES if path.stem == "rook")
    found = configurations(tmp_path, "--values", str(rook))
    for config, role in zip(found.values(), ("provisioner", "node"), strict=True):
        (cluster,) = config.clusters
        assert cluster.mon_host() == "10.96.0.11:6789,10.96.0.12:6789"
        secret = ROOK["secret", f"rook-csi-rbd-{role}"]
        assert cluster.credentials() == Credentials(secret["userID"], Secret(secret["userKey"]))
    for file in (tmp_path / "DaemonSet").iterdir():
        assert KEY not in file.read_text()


def test_secrets_of_ones_own_are_mounted_without_what_the_clusters_name() -> None:
    (rook,) = (path for path in VALUES if path.stem == "rook")
    objects = rendered("--values", str(rook), "--set", "node.existingSecret=on-nodes")
    assert config_volume(objects["DaemonSet"][0])["secret"]["secretName"] == "on-nodes"
    assert len(config_sources(objects["StatefulSet"][0])) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["clusters[0].monitors={10.0.0.1}"], "oneOf|monitors"),
        ([f"clusters[0].key={KEY}"], "oneOf|key"),
        (["clusters[0].nodeKeyFrom=null"], "nodeKey"),
        (["clusters[0].auth=none"], "oneOf|auth"),
    ],
)
def test_two_origins_of_one_fact_are_refused(flags: list[str], words: str) -> None:
    (rook,) = (path for path in VALUES if path.stem == "rook")
    with pytest.raises(errors.Failed, match=words):
        manifests.template("--values", str(rook), *(word for f in flags for word in ("--set", f)))


def test_two_clusters_of_one_id_are_refused() -> None:
    with pytest.raises(errors.Failed, match='two have the clusterID "main"'):
        manifests.template(*EVERYTHING, "--set", "clusters[1].clusterID=main")


@pytest.mark.parametrize(
    ("flags", "secrets"),
    [
        ((), ["rbdcsi-config", "rbdcsi-config"]),
        (("--set", "node.existingSecret=on-nodes"), ["rbdcsi-config", "on-nodes"]),
    ],
)
def test_secrets_that_exist_are_mounted_and_none_is_made(
    flags: tuple[str, ...], secrets: list[str]
) -> None:
    objects = rendered(*MINIMAL, *flags)
    workloads = (*objects["StatefulSet"], *objects["DaemonSet"])
    assert [config_secret(workload) for workload in workloads] == secrets
    assert "Secret" not in objects


def test_node_ids_have_the_name_of_their_kubernetes_cluster_if_it_has_one() -> None:
    for flags, node_id in (MINIMAL, "node-a"), (EVERYTHING, "production/node-a"):
        (workload,) = rendered(*flags)["DaemonSet"]
        options = serve.serve.make_context("serve", driver_args(workload)).params
        assert options["node_id"] == node_id


def test_controllers_and_nodes_have_one_policy_of_fences() -> None:
    objects = rendered(*EVERYTHING)
    controller, node = (
        serve.serve.make_context("serve", driver_args(workload)).params
        for workload in (*objects["StatefulSet"], *objects["DaemonSet"])
    )
    assert (controller["fence"], controller["detach_grace"]) == ("never", 2.5)
    assert node["fence"] == "never"


def test_dashboard_is_in_a_config_map_that_grafana_looks_for() -> None:
    (config_map,) = rendered(*EVERYTHING)["ConfigMap"]
    labels = config_map["metadata"]["labels"]
    assert (labels["grafana_dashboard"], labels["example.com/folder"]) == ("1", "storage")
    file = manifests.CHART / "files/dashboard.json"
    assert json.loads(config_map["data"]["rbdcsi.json"]) == json.loads(file.read_text())
    assert "ConfigMap" not in rendered(*MINIMAL)


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_new_monitor_restarts_the_driver_and_a_new_key_does_not(kind: str) -> None:
    key = "AQBhYmNkAAAAABAAYWJjZGVmZ2hpamtsbW5vcQ=="
    before, rotated, moved = (
        checksum(kind, *EVERYTHING, *change)
        for change in (
            (),
            ("--set", f"clusters[0].key={key},clusters[0].nodeKey={key}"),
            ("--set", "clusters[0].monitors={10.0.0.9}"),
        )
    )
    assert before == rotated != moved


def test_capacity_is_published_unless_nodes_have_no_topology() -> None:
    for flags, published in ((), True), (("--set-json", "node.topology=[]"), False):
        objects = rendered(*MINIMAL, *flags)
        assert objects["CSIDriver"][0]["spec"]["storageCapacity"] is published
        containers = objects["StatefulSet"][0]["spec"]["template"]["spec"]["containers"]
        (args,) = (each["args"] for each in containers if each["name"] == "provisioner")
        assert ("--enable-capacity" in args) is published


def test_node_plugin_has_no_rights_and_the_controller_no_secrets() -> None:
    objects = rendered(*MINIMAL)
    bindings = (*objects["ClusterRoleBinding"], *objects["RoleBinding"])
    subjects = {subject["name"] for binding in bindings for subject in binding["subjects"]}
    assert subjects == {"rbdcsi-controller"}
    rules = [rule for role in (*objects["ClusterRole"], *objects["Role"]) for rule in role["rules"]]
    assert not any("*" in word for rule in rules for words in rule.values() for word in words)
    assert not any("secrets" in rule["resources"] for rule in rules)


def test_secrets_of_classes_are_read_in_their_namespaces_and_no_others() -> None:
    listed = "{one,rbdcsi/two,rook-ceph/provisioner,rook-ceph/publisher,1/x.y}"
    objects = rendered(*MINIMAL, "--set", f"controller.storageClassSecrets={listed}")
    secrets = {
        role["metadata"]["namespace"]: (role["metadata"]["name"], rule["resourceNames"])
        for role in objects["Role"]
        for rule in role["rules"]
        if rule["resources"] == ["secrets"] and rule["verbs"] == ["get"]
    }
    assert secrets == {
        "rbdcsi": ("rbdcsi-controller", ["one", "two"]),
        "rook-ceph": ("rbdcsi-controller-secrets", ["provisioner", "publisher"]),
        "1": ("rbdcsi-controller-secrets", ["x.y"]),
    }
    bound = {
        each["metadata"]["namespace"]: (each["roleRef"]["name"], each["subjects"])
        for each in objects["RoleBinding"]
    }
    account = {"kind": "ServiceAccount", "name": "rbdcsi-controller", "namespace": "rbdcsi"}
    assert bound == {namespace: (role, [account]) for namespace, (role, _) in secrets.items()}


def test_the_values_of_the_manual_are_taken(tmp_path: Path) -> None:
    text = (manifests.ROOT / "docs/how-to/install.md").read_text()
    values = tmp_path / "values.yaml"
    values.write_text(text.split("```yaml\n")[1].split("```")[0])
    assert [found["metadata"]["name"] for found in rendered("--values", str(values))["Secret"]]


def test_every_class_is_one_that_the_driver_takes() -> None:
    texts = [*(path.read_text() for path in EXAMPLES), *map(manifests.kustomized, OVERLAYS)]
    kinds = [
        class_that_the_driver_takes(each)
        for text in (*texts, manifests.template(*EVERYTHING))
        for each in filter(None, yaml.safe_load_all(text))
    ]
    counts = {kind: kinds.count(kind) for kind in filter(None, kinds)}
    assert counts == {"StorageClass": 6, "VolumeSnapshotClass": 2, "VolumeGroupSnapshotClass": 2}


def test_claims_can_grow_unless_the_resizer_is_off() -> None:
    flags = ("--set", "storageClasses[0].name=rbd")
    off = (*flags, "--set", "sidecars.resizer.enabled=false")
    assert "resizer" in sidecars(*flags)
    assert "resizer" not in sidecars(*off)
    (growing,) = rendered(*MINIMAL, *flags)["StorageClass"]
    (fixed,) = rendered(*MINIMAL, *off)["StorageClass"]
    assert growing["allowVolumeExpansion"] is True
    assert "allowVolumeExpansion" not in fixed


def test_a_number_among_the_parameters_keeps_its_digits(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    wanted = {"objectSize": 4194304, "stripeCount": 8, "ratio": 2.5}
    values.write_text(yaml.safe_dump({"storageClasses": [{"name": "rbd", "parameters": wanted}]}))
    (found,) = rendered(*MINIMAL, "--values", str(values))["StorageClass"]
    assert found["parameters"] == {name: str(number) for name, number in wanted.items()}


@pytest.mark.parametrize("enabled", [True, False])
def test_parent_chart_can_switch_the_chart_on_and_off(enabled: bool, tmp_path: Path) -> None:
    shutil.copytree(manifests.CHART, tmp_path / "charts/rbdcsi")
    version = {"apiVersion": "v2", "version": "1.0.0"}
    dependency = {"name": "rbdcsi", "version": "*", "condition": "rbdcsi.enabled"}
    parent = {**version, "name": "parent", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(json.dumps(parent))
    values = {"rbdcsi": {"enabled": enabled, "existingSecret": "rbdcsi-config"}}
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    objects = by_kind(manifests.helm("template", "release", str(tmp_path)))
    assert ("DaemonSet" in objects) is enabled


def test_chart_and_driver_have_one_version() -> None:
    chart = yaml.safe_load((manifests.CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == rbdcsi.__version__


def test_modules_that_the_kernel_has_need_no_files_of_the_host(tmp_path: Path) -> None:
    (workload,) = rendered(*MINIMAL)["DaemonSet"]
    pod = workload["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    (modules,) = (each for each in pod["volumes"] if each["name"] == "modules")
    assert "type" not in modules["hostPath"]  # with one, a host without it starts no Pod
    assert init["args"] == ["rbd"]
    built_in = next(path.name for path in sorted(Path("/sys/module").iterdir()))
    modprobe = tmp_path / "modprobe"
    modprobe.write_text("#!/bin/sh\necho load $1; exit 3\n")
    modprobe.chmod(0o755)

    def run(*names: str) -> tuple[int, str]:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        ended = subprocess.run(
            [*init["command"], *names], capture_output=True, text=True, check=False, env=path
        )
        return ended.returncode, ended.stdout

    assert run(built_in) == (0, "")
    assert run(built_in, "no_such_module", "another") == (3, "load no_such_module\n")
