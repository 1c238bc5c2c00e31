"""docker-compose.yml without Docker: it follows the Compose specification, and names only what exists.

Each check is a function from the file's content to the faults in it, and is shown to find a fault that was put there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from compose_spec import PyCompose

from settings import Settings

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
SECRETS = {
    "POSTGRES_PASSWORD": "p1",
    "TEMPORAL_POSTGRES_PASSWORD": "p2",
    "STRIPE_API_KEY": "sk_test_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
}
SECRET_NAME = re.compile(r"PASSWORD|PWD|SECRET|TOKEN|API_KEY|CONSUMER_KEY")
REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<word>[^}]*))?\})")

Compose = dict[str, Any]
Check = Callable[[Compose], Iterator[str]]


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """The text as Compose reads it: `${X:-default}`, `${X:?what to set}` and `$$`. KeyError says what is missing."""

    def value(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        if given := environment.get(found["name"]):
            return given
        if found["how"] == ":?":
            raise KeyError(f"{found['name']}: {found['word']}")
        return found["word"] or ""

    return REFERENCE.sub(value, text)


def read(text: str) -> Compose:
    content: Compose = yaml.safe_load(text)
    return content


def services(compose: Compose) -> Iterator[tuple[str, Compose]]:
    yield from compose["services"].items()


def is_ours(service: Compose) -> bool:
    return str(service.get("image", "")).startswith("perennial:")


def runs_on(service: Compose) -> bool:
    """Whether it is to run for ever; the others do one thing and end."""
    return not str(service.get("restart", "")).startswith("on-failure")


def verbs() -> set[str]:
    import cli  # Here, so that a fault in it fails one test only.

    command: Any = typer.main.get_command(cli.app)
    return set(command.commands)


def long_running_services_are_watched(compose: Compose) -> Iterator[str]:
    for name, service in services(compose):
        if runs_on(service):
            if not service.get("healthcheck", {}).get("test"):
                yield f"{name} has no health check"
            if service.get("restart") not in {"always", "unless-stopped"}:
                yield f"{name} is not started again when it dies"


def variables_are_settings(compose: Compose) -> Iterator[str]:
    known = {field.upper() for field in Settings.model_fields}
    for name, service in services(compose):
        if is_ours(service):
            yield from (f"{name}: {v} is no field of Settings" for v in service["environment"] if v not in known)


def secrets_come_from_outside(compose: Compose) -> Iterator[str]:
    for name, service in services(compose):
        for variable, value in service.get("environment", {}).items():
            if SECRET_NAME.search(variable) and not re.fullmatch(r"\$\{\w+(:\?[^}]+|:-)\}", str(value)):
                yield f"{name}: {variable} has a value or a default"
            in_url = re.search(r"://[^/@:]*:(?P<password>.*)@", str(value))
            if in_url and not re.fullmatch(r"\$\{\w+:\?[^}]+\}", in_url["password"]):
                yield f"{name}: {variable} has a password in it"


def dependencies_say_what_they_wait_for(compose: Compose) -> Iterator[str]:
    for name, service in services(compose):
        for other, how in service.get("depends_on", {}).items():
            if other not in compose["services"]:
                yield f"{name} waits for {other}, which is not there"
                continue
            wanted = "service_healthy" if runs_on(compose["services"][other]) else "service_completed_successfully"
            if how.get("condition") != wanted:
                yield f"{name} waits for {other} with {how.get('condition')} instead of {wanted}"


def ours_are_confined(compose: Compose) -> Iterator[str]:
    for name, service in services(compose):
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} may gain privileges"
        if is_ours(service):
            user = str(service.get("user", "0")).split(":")[0]
            if user in {"0", "root"} or not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
                yield f"{name} is root, can write to its image, or has capabilities"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name} is published to the world at {port}"


def what_is_mounted_is_declared(compose: Compose) -> Iterator[str]:
    for name, service in services(compose):
        for volume in service.get("volumes", []):
            if volume.split(":")[0] not in compose["volumes"]:
                yield f"{name}: no volume {volume}"
        for config in service.get("configs", []):
            if config["source"] not in compose["configs"]:
                yield f"{name}: no config {config['source']}"
        for secret in service.get("secrets", []):
            if secret not in compose["secrets"]:
                yield f"{name}: no secret {secret}"


def put(path: str, value: object) -> Callable[[Compose], None]:
    """A change of the file: the value at a dotted path of the services; None takes it away."""

    def change(compose: Compose) -> None:
        *way, last = path.split(".")
        place = compose["services"]
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


CHECKS: tuple[tuple[Check, tuple[Callable[[Compose], None], ...]], ...] = (
    (
        long_running_services_are_watched,
        (put("api.healthcheck", None), put("worker.healthcheck", {"disable": True}), put("postgres.restart", "no")),
    ),
    (variables_are_settings, (put("worker.environment.DATABASE", "x"), put("migrate.environment.TEMPORAL_HOST", "x"))),
    (
        secrets_come_from_outside,
        (
            put("worker.environment.STRIPE_API_KEY", "sk_live_1"),
            put("api.environment.STRIPE_WEBHOOK_SECRET", "${STRIPE_WEBHOOK_SECRET:-whsec_1}"),
            put("postgres.environment.POSTGRES_PASSWORD", "${POSTGRES_PASSWORD}"),
            put("migrate.environment.DATABASE_URL", "postgresql://perennial:perennial@postgres/perennial"),
        ),
    ),
    (
        dependencies_say_what_they_wait_for,
        (
            put("api.depends_on.migrate.condition", "service_started"),
            put("worker.depends_on.temporal.condition", "service_completed_successfully"),
            put("worker.depends_on.redis", {"condition": "service_healthy"}),
        ),
    ),
    (
        ours_are_confined,
        (
            put("api.user", "root"),
            put("worker.read_only", False),
            put("postgres.security_opt", None),
            put("postgres.ports", ["5432:5432"]),
        ),
    ),
    (
        what_is_mounted_is_declared,
        (
            put("worker.volumes", ["journals:/erp"]),
            put("postgres.configs", [{"source": "init", "target": "/x"}]),
            put("api.secrets", ["key"]),
        ),
    ),
)


@pytest.mark.parametrize("check", [check for check, _ in CHECKS], ids=lambda check: check.__name__)
def test_the_file_is_as_it_should_be(check: Check) -> None:
    assert list(check(read(TEXT))) == []


@pytest.mark.parametrize(("check", "change"), [(check, change) for check, changes in CHECKS for change in changes])
def test_a_fault_put_there_is_found(check: Check, change: Callable[[Compose], None]) -> None:
    compose = deepcopy(read(TEXT))
    change(compose)
    assert list(check(compose))


def validated(text: str) -> PyCompose:
    """Read by an implementation of the specification, merge keys and variables resolved; ValueError if it is wrong."""
    parsed = PyCompose.from_json(json.dumps(read(interpolated(text, SECRETS))))
    parsed.validate()
    parsed.to_spec()
    return parsed


def test_it_follows_the_compose_specification() -> None:
    parsed = validated(TEXT)
    assert set(parsed.service_names()) == set(read(TEXT)["services"])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restart: sometimes"),
        ("  api:\n", "  api:\n    imagee: x\n"),
        ("networks: [perennial]", "networks: [elsewhere]"),
        ("replicas: 2", "replicas: two"),
        ("condition: service_healthy", "condition: service_well"),
    ],
)
def test_the_specification_refuses_what_is_wrong(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(ValueError):
        validated(TEXT.replace(right, wrong))


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_without_its_secrets(name: str) -> None:
    with pytest.raises(KeyError, match=f"{name}: set "):
        interpolated(TEXT, {key: value for key, value in SECRETS.items() if key != name})


def test_every_command_is_a_verb_of_the_terminal() -> None:
    used = {service["command"][0] for _, service in services(read(TEXT)) if is_ours(service)}
    assert used == {"migrate", "serve", "worker"}
    assert used <= verbs()
    assert "bill-everything" not in verbs()


def test_the_image_is_built_from_what_is_there() -> None:
    """Every room and root that the wheel names is let into the build, and nothing is let in that does not exist."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = re.search(r"only-include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert wheel
    for name in re.findall(r'"([^"]+)"', wheel[1]):
        assert (ROOT / name).exists(), f"pyproject.toml packs {name}, which is not there"
        assert name in kept or (name.endswith(".py") and "*.py" in kept), f".dockerignore keeps {name} out"
    roots = {path.name for path in ROOT.glob("*.py")}
    assert roots <= set(re.findall(r'"([^"]+)"', wheel[1])), "a module at the top is not packed"
