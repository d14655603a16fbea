"""Accounts and roles: what a file or a command asks for, and what each role may do on a true server."""

from typing import Any

import pytest
import requests
import yaml
from servers import ACCOUNTS, ADMIN_PASSWORD, Registry, Version, password_of

from tumorflow.cli import main
from tumorflow.errors import ParameterError, SourceError
from tumorflow.review.accounts import Account, Change, Present, find_changes, parse_account, read_accounts
from tumorflow.review.roles import GRANTS, compare_grants

pytestmark = pytest.mark.timeout(300)
SECRET = "a-good-one-for-ada-1"
ADA = Account("ada", frozenset({"reviewer"}), SECRET)


def says(error: type[Exception], *words: str):
    return pytest.raises(error, match=".*".join(words))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "ada", "role": "reviewer"}, "Received: role"),
        ({"name": "ada", "password": SECRET}, "Received: password"),
        ({"roles": ["viewer"]}, "Received: None"),
        ({"name": 7}, "Received: 7"),
        ({"name": ""}, "Received: ''"),
        ({"name": "a b"}, "Received: 'a b'"),
        ({"name": "../ada"}, "letters, digits"),
        ({"name": "ada\n"}, "letters, digits"),
        ({"name": "a" * 65}, "at most 64"),
        ({"name": "admin", "roles": ["reviewer"]}, "not the administrator's"),
        ({"name": "ada", "roles": ["admin"]}, "Received: admin for ada"),
        ({"name": "ada", "roles": ["Reviewer", "viewer"]}, "Received: Reviewer for ada"),
        ({"name": "ada", "roles": "reviewer"}, "Received: str for ada"),
        ({"name": "ada", "roles": [None]}, "Received: None for ada"),
        ({"name": "ada", "roles": [["reviewer"]]}, "for ada"),
    ],
)
def test_an_entry_that_is_wrong_is_refused(entry, words):
    with says(ParameterError, words):
        parse_account(entry, {})


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "none"),
        ("short-1", "7 characters"),
        ("password", "a default"),
        ("Passwort1234!", "a default"),
        ("changeme-123", "a default"),
        ("replace-me-with-yours", "a default"),
        ("aaaaaaaaaaaaaaaa", "a default"),
        ("abababababababab", "a default"),
    ],
)
def test_a_password_that_is_none_is_refused_by_its_variable_alone(secret, fault):
    with says(ParameterError, f"Received: {fault} in ADA_PASSWORD, for ada") as refused:
        parse_account({"name": "ada", "password_from": "ADA_PASSWORD"}, {"ADA_PASSWORD": secret})
    assert len(secret) < 9 or secret not in str(refused.value)


def test_an_account_tells_nobody_its_password():
    account = parse_account(
        {"name": "ada", "roles": ["reviewer"], "password_from": "ADA_PASSWORD"}, {"ADA_PASSWORD": SECRET}
    )
    assert account == ADA
    changes = find_changes([account], {})
    assert SECRET not in f"{account!r} {changes!r} {' '.join(map(str, changes))}"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "ada: reviewer",
        "- ada",
        "- [ada]",
        "{",
        "- !!python/object/apply:os.system [true]",
        "\x00",
        "- {a: b",
    ],
)
def test_a_file_that_is_no_list_of_accounts_is_refused(tmp_path, content):
    file = tmp_path / "accounts.yaml"
    file.write_text(content)
    with says(SourceError, "accounts.yaml"):
        read_accounts(file, {})


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with says(SourceError, "FileNotFoundError"):
        read_accounts(tmp_path / "none.yaml", {})
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xfe\x89PNG")
    with says(SourceError, "UnicodeDecodeError"):
        read_accounts(tmp_path / "picture.yaml", {})


def test_a_name_comes_once(tmp_path):
    file = tmp_path / "accounts.yaml"
    file.write_text("- {name: ada, roles: [viewer]}\n- {name: bob}\n- {name: ada, roles: [reviewer]}\n")
    with says(ParameterError, "Received: ada again"):
        read_accounts(file, {})


def test_what_is_as_wanted_changes_nothing():
    present = {"ada": Present(frozenset({"reviewer"})), "admin": Present(frozenset(), is_administrator=True)}
    assert find_changes([ADA], present, has_password=lambda *_: True, prune=True) == []
    assert find_changes([Account("ada", frozenset({"reviewer"}))], present) == []


def test_changes_come_in_their_order():
    present = {
        "ada": Present(frozenset({"viewer"})),
        "bob": Present(frozenset()),
        "admin": Present(frozenset(), True),
    }
    wanted = [ADA, Account("cy", frozenset({"pipeline", "engineer"}), SECRET)]
    assert find_changes(wanted, present, prune=True) == [
        Change("set_password", "ada", password=SECRET),
        Change("give", "ada", "reviewer"),
        Change("take", "ada", "viewer"),
        Change("add", "cy", password=SECRET),
        Change("give", "cy", "engineer"),
        Change("give", "cy", "pipeline"),
        Change("remove", "bob"),
    ]
    assert Change("remove", "bob") not in find_changes(wanted, present)


def test_a_new_account_needs_a_password_and_an_administrator_gets_no_role():
    with says(ParameterError, "none for ada"):
        find_changes([Account("ada", frozenset())], {})
    with says(ParameterError, "Received: root"):
        find_changes([Account("root", frozenset({"reviewer"}))], {"root": Present(frozenset(), True)})


@pytest.mark.parametrize("role", GRANTS)
def test_a_role_gets_what_the_table_grants_and_keeps_nothing_else(role):
    wanted = [(grant.resource, "*", grant.permission) for grant in GRANTS[role]]
    assert compare_grants(role, wanted) == ((), ())
    more = ("registered_model", "7", "MANAGE")
    assert compare_grants(role, [*wanted, more]) == ((), (("registered_model", "7"),))
    assert [grant.resource for grant in compare_grants(role, []).add] == sorted(each[0] for each in wanted)


# On a true server


@pytest.fixture
def users(registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command `tumorflow registry users`, as the administrator: exit code and what it said."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["registry", "users", *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_a_second_time_changes_nothing(registry, users, monkeypatch):
    for name in ACCOUNTS:
        monkeypatch.setenv(f"PASSWORD_{name}", password_of(name))
    before = registry.audit()
    assert users("apply", str(registry.folder / "accounts.yaml")) == (0, "nothing changed\n")
    assert users("add", "rita", "--role", "reviewer") == (0, "nothing changed\n")
    assert users("remove", "nobody") == (0, "nothing changed: there is no such account\n")
    assert registry.audit() == before


def test_accounts_are_listed_with_their_roles(users):
    code, listed = users("list")
    lines = dict(line.split("  ", 1) for line in listed.splitlines())
    told = {name.strip(): roles.strip() for name, roles in lines.items()}
    assert code == 0
    assert told == {
        "admin": "administrator",
        **{name: ", ".join(sorted(roles)) or "no role" for name, roles in ACCOUNTS.items()},
    }


def test_an_account_comes_and_goes_and_the_audit_says_so(registry, users, monkeypatch):
    monkeypatch.setenv("ADA_PASSWORD", SECRET)
    begun = len(registry.audit())
    added = users("add", "ada", "--role", "viewer", "--role", "reviewer", "--password-from", "ADA_PASSWORD")
    assert added == (0, "added ada\ngave ada the role reviewer\ngave ada the role viewer\n")
    assert users("add", "ada", "--role", "viewer") == (0, "took the role reviewer from ada\n")
    monkeypatch.setenv("ADA_PASSWORD", "and-another-one-2")
    changed = users("add", "ada", "--role", "viewer", "--password-from", "ADA_PASSWORD")
    assert changed == (0, "set the password of ada\n")
    assert users("remove", "ada") == (0, "removed ada\n")
    told = [(entry["action"], entry["actor"], entry["reason"]) for entry in registry.audit()[begun:]]
    assert sorted(told[:2]) == [("role_given", "admin", f"{role}: ada") for role in ("reviewer", "viewer")]
    assert told[2:] == [
        ("role_taken", "admin", "reviewer: ada"),
        ("password_set", "admin", "ada"),
        ("role_taken", "admin", "viewer: ada"),
    ]


def test_a_file_is_applied_and_what_it_does_not_name_is_removed_only_if_asked(
    registry, users, monkeypatch, tmp_path
):
    monkeypatch.setenv("ADA_PASSWORD", SECRET)
    listed = [{"name": name, "roles": list(roles)} for name, roles in ACCOUNTS.items()]
    with_ada = tmp_path / "with.yaml"
    with_ada.write_text(
        yaml.safe_dump([*listed, {"name": "ada", "roles": [], "password_from": "ADA_PASSWORD"}])
    )
    without = tmp_path / "without.yaml"
    without.write_text(yaml.safe_dump(listed))
    assert users("apply", str(with_ada)) == (0, "added ada\n")
    assert users("apply", str(without)) == (0, "nothing changed\n")
    assert users("apply", str(without), "--prune") == (0, "removed ada\n")
    assert users("apply", str(without), "--prune") == (0, "nothing changed\n")
    assert users("list")[1].startswith("admin")


def test_a_file_with_one_fault_changes_nothing(registry, users, tmp_path):
    file = tmp_path / "accounts.yaml"
    file.write_text("- {name: vic, roles: [reviewer]}\n- {name: bob, roles: [owner]}\n")
    before = registry.audit()
    code, told = users("apply", str(file))
    assert (code, "Received: owner for bob" in told) == (2, True), told
    file.write_text("- {name: vic, roles: [reviewer]}\n- {name: new, roles: [viewer]}\n")
    code, told = users("apply", str(file))
    assert (code, "none for new" in told) == (2, True), told
    assert registry.audit() == before


def test_an_administrator_stays_and_gets_no_role(users, tmp_path):
    code, told = users("remove", "admin")
    assert (code, "An administrator stays" in told) == (2, True), told
    code, told = users("add", "admin", "--role", "reviewer")
    assert (code, "not the administrator's" in told) == (2, True), told
    file = tmp_path / "accounts.yaml"
    file.write_text("- {name: admin, roles: [reviewer]}\n")
    assert users("apply", str(file))[0] == 2


@pytest.mark.parametrize("who", ["ann", "rita", "vic"])
def test_accounts_are_the_administrators(registry, users, monkeypatch, who):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", who)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password_of(who))
    before = registry.audit()
    for arguments in (("add", "vic", "--role", "reviewer"), ("remove", "rob")):
        code, told = users(*arguments)
        assert (code, "PERMISSION_DENIED" in told or "403" in told) == (1, True), told
    assert registry.audit() == before


def test_a_wrong_password_or_address_is_said_without_it(users, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-one-at-all")
    code, told = users("list")
    assert (code, "Received: 401" in told, "not-the-one-at-all" in told) == (1, True, False), told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    code, told = users("list")
    assert (code, "an address without http" in told) == (2, True), told


@pytest.fixture(scope="module")
def version(registry: Registry) -> Version:
    return registry.register("roles", ended=False)


EVERYBODY = frozenset({"admin", *ACCOUNTS})
MAKERS = frozenset({"admin", "ann", "pipeline", "both"})
MODELLERS = MAKERS | {"rita", "rob"}
"""Reviewers may change models, since MLflow takes an alias from nobody else."""


def act(registry: Registry, version: Version, who: str, what: str) -> requests.Response:
    """Returns the server's answer to an act of an account."""
    made = {"source": f"models:/{version.model_id}", "run_id": version.run_id, "model_id": version.model_id}
    of_version: dict[str, Any] = {"name": version.model, "version": version.number}
    acts: dict[str, tuple[str, str, dict[str, Any]]] = {
        "read a run": ("GET", "runs/get", {"params": {"run_id": version.run_id}}),
        "read a version": ("GET", "model-versions/get", {"params": of_version}),
        "read the audit": ("GET", "/api/2.0/tumorflow/audit", {}),
        "start a run": ("POST", "runs/create", {"json": {"experiment_id": version.experiment_id}}),
        "log a parameter": (
            "POST", "runs/log-parameter", {"json": {"run_id": version.run_id, "key": "by", "value": "x"}},
        ),
        "write a file": (
            "PUT", f"/api/2.0/mlflow-artifacts/artifacts/{version.experiment_id}/{who}.txt", {"data": b"x"},
        ),
        "register a version": (
            "POST", "model-versions/create", {"json": {"name": version.model, **made}},
        ),
        "set candidate": ("POST", "registered-models/alias", {"json": {**of_version, "alias": "candidate"}}),
        "tag a version": (
            "POST", "model-versions/set-tag", {"json": {**of_version, "key": "note", "value": "x"}},
        ),
        "reject a version": (
            "POST", "model-versions/set-tag",
            {"json": {**of_version, "key": "review.reject", "value": "as the test asks"}},
        ),
        "make an account": (
            "POST", "/api/2.0/mlflow/users/create", {"json": {"username": f"of-{who}", "password": SECRET}},
        ),
        "set another's password": (
            "PATCH", "/api/2.0/mlflow/users/update-password",
            {"json": {"username": "both", "password": password_of("both")}},
        ),
        "make an administrator": (
            "PATCH", "/api/2.0/mlflow/users/update-admin", {"json": {"username": "nora", "is_admin": False}},
        ),
    }  # fmt: skip
    method, path, options = acts[what]
    return registry.ask(who, method, path, **options)


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("read a run", EVERYBODY),
        ("read a version", EVERYBODY),
        ("read the audit", EVERYBODY),
        ("start a run", MAKERS),
        ("log a parameter", MAKERS),
        ("write a file", MAKERS),
        ("register a version", MODELLERS),
        ("set candidate", MODELLERS),
        ("tag a version", MODELLERS),
        ("reject a version", {"rita", "rob", "both"}),
        ("make an account", {"admin"}),
        ("set another's password", {"admin"}),
        ("make an administrator", {"admin"}),
    ],
)
def test_each_role_does_what_it_is_for_and_no_more(registry, version, what, by):
    answers = {who: act(registry, version, who, what) for who in sorted(EVERYBODY)}
    if what == "set another's password":  # MLflow asks for the present one first, of whoever is the account
        assert answers.pop("both").status_code in (400, 403)
    assert {who for who, answer in answers.items() if answer.status_code == 200} == by
    assert {answer.status_code for answer in answers.values()} <= {200, 403}


def test_a_role_counts_at_once(registry, users):
    version = registry.register("at-once")
    for _ in range(8):  # every worker has seen the account
        assert (
            registry.ask("vic", "GET", "registered-models/get", params={"name": "at-once"}).status_code == 200
        )
    assert users("add", "vic", "--role", "reviewer")[0] == 0
    tags = [
        registry.set_tag("vic", version, "review.reject", f"turn {turn}").status_code for turn in range(6)
    ]
    assert tags == [200] * 6
    assert users("add", "vic", "--role", "viewer")[0] == 0
    tags = [
        registry.set_tag("vic", version, "review.reject", f"again {turn}").status_code for turn in range(6)
    ]
    assert tags == [403] * 6


def test_a_removed_account_does_nothing_and_its_name_brings_back_no_role(registry, users, monkeypatch):
    monkeypatch.setenv("GUS_PASSWORD", password_of("gus"))
    assert users("add", "gus", "--role", "reviewer", "--password-from", "GUS_PASSWORD")[0] == 0
    version = registry.register("removed")
    for _ in range(8):  # every worker keeps who asked, for a minute
        assert (
            registry.ask("gus", "GET", "registered-models/get", params={"name": "removed"}).status_code == 200
        )
    assert users("remove", "gus")[0] == 0
    answers = {registry.approve("gus", version).status_code for _ in range(6)}
    answers |= {registry.set_tag("gus", version, "note", "x").status_code for _ in range(6)}
    assert answers <= {401, 403, 404}
    assert registry.champion("removed") == ""
    assert users("add", "gus", "--role", "viewer", "--password-from", "GUS_PASSWORD")[0] == 0
    assert {registry.approve("gus", version).status_code for _ in range(6)} == {403}
    assert users("remove", "gus")[0] == 0


def test_a_new_password_counts_at_once_and_is_in_the_audit_unless_it_is_ones_own(
    registry, users, monkeypatch
):
    monkeypatch.setenv("HAL_PASSWORD", password_of("hal"))
    assert users("add", "hal", "--role", "viewer", "--password-from", "HAL_PASSWORD")[0] == 0
    own = {"username": "hal", "current_password": password_of("hal"), "password": "chosen-by-hal-alone-1"}
    before = registry.audit()
    registry.do("hal", "PATCH", "/api/2.0/mlflow/users/update-password", **own)
    assert registry.audit() == before
    monkeypatch.setenv("HAL_PASSWORD", "set-by-somebody-else-1")
    told = users("add", "hal", "--role", "viewer", "--password-from", "HAL_PASSWORD")
    assert told == (0, "set the password of hal\n")
    last = registry.audit()[-1]
    assert (last["action"], last["actor"], last["reason"]) == ("password_set", "admin", "hal")
    address = f"{registry.url}/api/2.0/mlflow/users/current"
    answers = [requests.get(address, auth=("hal", "set-by-somebody-else-1"), timeout=30) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    wrong = requests.get(address, auth=("hal", "never-was-the-one-1"), timeout=30)
    assert wrong.status_code == 401
    assert users("remove", "hal")[0] == 0


def test_whoever_becomes_administrator_is_in_the_audit(registry):
    for now, action in ((True, "role_given"), (False, "role_taken")):
        registry.do("admin", "PATCH", "/api/2.0/mlflow/users/update-admin", username="nora", is_admin=now)
        last = registry.audit()[-1]
        assert (last["action"], last["actor"], last["reason"]) == (action, "admin", "administrator: nora")
        before = registry.audit()
        registry.do("admin", "PATCH", "/api/2.0/mlflow/users/update-admin", username="nora", is_admin=now)
        assert registry.audit() == before
