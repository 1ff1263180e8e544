"""Where Cairn runs is found without being told, and a token is minted without being noticed."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from typer.testing import CliRunner

from cairn_client import tokens
from cairn_client.cli import app, main
from cairn_client.commands.connection import connect_async
from cairn_client.commands.stack import lag_words
from cairn_client.errors import ProfileError, Unavailable
from cairn_client.profile import Profile, Service, discover
from cairn_client.tokens import Issuer, provider_of
from cairn_client.transport import Patience
from cairn_stack.processes import ProcessId
from cairn_stack.state import ProcessState, ProcessStatus, StackState, StackStatus

SERVICES = {service.value: f"127.0.0.1:{9000 + n}" for n, service in enumerate(Service)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    key = OKPKey.generate_key("Ed25519", {"kid": "users-1"}, private=True)
    (tmp_path / "users-1.key.json").write_text(json.dumps(key.as_dict(private=True)))
    profile = {"tenant": "acme", "services": SERVICES, "issuer_key_file": "users-1.key.json"}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    return tmp_path


def test_a_home_has_addresses_and_the_key_to_mint_tokens(home: Path) -> None:
    profile = discover(environ={"CAIRN_HOME": str(home)})

    assert profile.addresses[Service.CONSENSUS] == SERVICES["consensus"]
    token = provider_of(profile)()
    key = OKPKey.import_key(json.loads((home / "users-1.key.json").read_text()))
    decoded = jwt.decode(token, key, algorithms=["Ed25519"])
    assert decoded.header["kid"] == "users-1"
    assert decoded.claims["tenant"] == "acme"
    assert decoded.claims["aud"] == "cairn"
    assert decoded.claims["exp"] > decoded.claims["iat"]


def test_a_minted_token_is_kept(home: Path) -> None:
    provider = provider_of(discover(home))

    assert provider() == provider()


@pytest.mark.parametrize("later", [3400.0, -30.0])
def test_a_minted_token_is_renewed_by_the_clock_by_which_it_expires(
    home: Path, monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    now, awake = time.time(), time.monotonic()
    clocks = SimpleNamespace(
        time=lambda: now, monotonic=lambda: awake
    )  # the machine sleeps, or its time is set
    monkeypatch.setattr(tokens, "time", clocks)
    provider = provider_of(discover(home))
    before = provider()
    assert provider() == before
    now += later
    assert provider() != before


def test_a_gateway_and_a_token_in_the_environment_suffice() -> None:
    profile = discover(environ={"CAIRN_ADDRESS": "cairn.example:443", "CAIRN_TOKEN": "t", "CAIRN_TLS": "1"})

    assert set(profile.addresses.values()) == {"cairn.example:443"}
    assert profile.tls
    assert provider_of(profile)() == "t"


def test_the_token_does_not_show_in_a_profiles_text() -> None:
    assert "secret" not in repr(Profile.at("h:1", token="secret"))


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cairn up"):
        discover(environ={"CAIRN_HOME": str(tmp_path)})
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(ProfileError, match="not as it should be"):
        discover(tmp_path)
    (tmp_path / "profile.json").write_text(json.dumps({"services": {"consensus": "h:1"}}))
    with pytest.raises(ProfileError, match="should have an address for annotation-store"):
        discover(tmp_path)
    with pytest.raises(ProfileError, match="neither a token nor an issuer key"):
        provider_of(Profile.at("h:1"))
    with pytest.raises(ProfileError, match="is missing"):
        Issuer(tmp_path / "none.json")


def test_every_subcommand_teaches() -> None:
    runner = CliRunner()
    for name in (
        "up",
        "down",
        "status",
        "logs",
        "token",
        "demo",
        "import",
        "label",
        "watch",
        "export",
        "report",
        "verify",
        "replay",
        "project create",
    ):
        result = runner.invoke(app, [*name.split(), "--help"])
        assert result.exit_code == 0, name
        assert len(result.output.splitlines()) > 8, name


def test_an_error_is_one_plain_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cairn", "--home", str(tmp_path), "project", "list"])

    with pytest.raises(SystemExit) as ended:
        main()

    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert told.startswith("Error: Cairn is not running here")
    assert "Traceback" not in told


def test_a_token_is_minted_from_the_command_line(home: Path) -> None:
    result = CliRunner().invoke(
        app, ["--home", str(home), "token", "--subject", "ann", "--role", "labeler", "--project", "p"]
    )

    key = OKPKey.import_key(json.loads((home / "users-1.key.json").read_text()))
    claims = jwt.decode(result.output.strip(), key, algorithms=["Ed25519"]).claims
    assert (claims["sub"], claims["roles"], claims["projects"]) == ("ann", ["labeler"], ["p"])


def stack_was(home: Path, state: StackState, supervisor: ProcessId | None) -> None:
    """What a supervisor wrote of itself last."""
    store = ProcessStatus("annotation-store", ProcessState.STOPPED)
    (home / "state.json").write_text(
        json.dumps(StackStatus(home, state, supervisor, processes=(store,)).to_json())
    )


async def test_nobody_waits_for_a_local_stack_that_is_stopped(home: Path) -> None:
    stack_was(home, StackState.STOPPED, None)
    began = time.monotonic()

    async with connect_async(home) as client:
        with pytest.raises(Unavailable) as error:
            await client.projects.get("p")

    assert str(error.value) == f"The stack in {home} is stopped; start it with `cairn up`."
    assert time.monotonic() - began < 20  # of the minute that an absent service is given


@pytest.mark.parametrize("supervised", [True, False])
async def test_what_is_no_stopped_stack_is_waited_for(home: Path, supervised: bool) -> None:
    if supervised:
        stack_was(home, StackState.READY, ProcessId.of(os.getpid()))
    began = time.monotonic()

    async with connect_async(home, Patience(call=1.5)) as client:
        with pytest.raises(Unavailable, match="Cairn does not answer"):
            await client.projects.get("p")

    # It gives up when the next try would be too late, and the tries are half a second apart by then.
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize(
    ("lag", "told"),
    [
        (None, ""),
        (SimpleNamespace(unpublished=0, unhandled=0, seconds=0.04), "0.0 s"),
        (SimpleNamespace(unpublished=1200, unhandled=7, seconds=2.25), "2.2 s (1,200 out, 7 in)"),
    ],
)
def test_the_lag_of_a_service_is_said_in_seconds_and_in_what_waits(lag: object, told: str) -> None:
    assert lag_words(lag) == told
