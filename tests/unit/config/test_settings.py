"""Where each setting is from, what is refused and how, the example file, secrets."""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from ownward import config
from ownward.config import ServerSettings, Settings
from ownward.core import ConfigError, UsageError, to_json

ROOT = Path(__file__).resolve().parents[3]
HOME = {"HOME": "/home/somebody"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def write(folder, text, name="ownward.toml"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def load(folder, **given):
    given.setdefault("environ", HOME)
    return config.load(folder=folder, **given)


def origins(settings):
    return {each.key: each.origin for each in config.effective(settings)}


def test_defaults_hold_where_nothing_is_said(folder):
    """The documented loopback port, and the platform's folders."""
    settings = load(folder)
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8484)
    assert settings.ledger.path == Path("/home/somebody/.local/share/ownward/ledger.db")
    assert settings.engine.cache_dir == Path("/home/somebody/.cache/ownward")
    assert settings.file is None
    assert set(origins(settings).values()) == {"default"}


def test_flag_wins_over_environment_over_file_over_default(folder):
    """Each layer is seen where the one above says nothing, and each value knows its origin."""
    file = write(folder, "[server]\nport = 1\ndrain_s = '5s'\n[engine]\nslots = 2\n")
    environ = {**HOME, "OWNWARD_SERVER_PORT": "3", "OWNWARD_ENGINE_SLOTS": "4"}
    settings = load(folder, environ=environ, flags={"server.port": 5, "server.host": None})
    assert (settings.server.port, settings.engine.slots, settings.server.drain_s) == (5, 4, 5.0)
    found = origins(settings)
    assert found["server.port"] == "flag"
    assert found["engine.slots"] == "env OWNWARD_ENGINE_SLOTS"
    assert found["server.drain_s"] == f"{file}:3"
    assert found["server.host"] == "default"


def test_the_file_is_searched_in_order(folder):
    """--config, then $OWNWARD_CONFIG, then ./ownward.toml, then the platform's folder."""
    home = folder / "home"
    environ = {"HOME": str(home)}
    assert load(folder, environ=environ).file is None
    platform = write(home / ".config/ownward", "")
    assert load(folder, environ=environ).file == platform
    here = write(folder, "")
    assert load(folder, environ=environ).file == here
    named = write(folder, "", "other.toml")
    environ["OWNWARD_CONFIG"] = "other.toml"
    assert load(folder, environ=environ).file == named
    flagged = write(folder, "", "flag.toml")
    assert load(folder, environ=environ, config_file=flagged).file == flagged


@pytest.mark.parametrize("given", [{"config_file": Path("no.toml")}, {"environ": {"OWNWARD_CONFIG": "no.toml"}}])
def test_a_named_file_that_is_missing_is_a_fault(folder, given):
    with pytest.raises(ConfigError, match="is not there"):
        load(folder, **given)


def test_settings_that_nobody_may_look_for_are_not_passed_over(folder, monkeypatch):
    """A service of its own user that inherits root's home: what is written there would be missed."""
    look = Path.stat

    def refuse(path, **options):
        if path.is_relative_to("/root/.config"):
            raise PermissionError(13, "Permission denied")
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ConfigError, match=r"/root/\.config/ownward/ownward\.toml.*cannot be accessed: .*\nSet HOME"):
        config.load(environ={"HOME": "/root"}, folder=folder)


def test_xdg_folders_are_followed_where_they_are_absolute():
    environ = {"HOME": "/home/a", "XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "relative"}
    assert config.platform_folder("data", environ) == Path("/data/ownward")
    assert config.platform_folder("cache", environ) == Path("/home/a/.cache/ownward")


def test_every_fault_of_every_source_is_told_at_once(folder):
    """File with lines, environment and flags together; each names the closest."""
    write(folder, "[server]\nprot = 1\n\n[gatway]\nx = 1\n[ledger]\ndurability = 'powr'\n[gateway]\nmax_attempts = 0\n")
    environ = {**HOME, "OWNWARD_GATEWAY_MAX_ATEMPTS": "3", "OWNWARD_ENGINE_SLOTS": "many"}
    with pytest.raises(ConfigError) as caught:
        load(folder, environ=environ, flags={"server.prt": 1, "server.port": 70_000})
    told = "\n".join(str(fault) for fault in caught.value.faults)
    for words in (
        "ownward.toml:2: server.prot is not a known key",
        "ownward.toml:9: gateway.max_attempts is 0. Write a value from 1 up to 100, in calls",
        'ownward.toml:4: gatway is not a known key. Closest: "gateway"',
        'ownward.toml:7: ledger.durability is "powr". Closest: "power"',
        'environment: OWNWARD_GATEWAY_MAX_ATEMPTS is not a setting. Closest: "OWNWARD_GATEWAY_MAX_ATTEMPTS"',
        'environment: OWNWARD_ENGINE_SLOTS is "many", not a whole number. Write OWNWARD_ENGINE_SLOTS=4: a value from 1',
        "command line: server.prt is not a setting",
        "command line: server.port is 70000. Write a value from 0 up to 65535",
    ):
        assert words in told
    assert len(caught.value.faults) == 8
    assert caught.value.next_step is not None


@pytest.mark.parametrize(
    ("section", "key", "bounds"),
    [
        ("server", "port", "8484: a value from 0 up to 65535"),
        ("gateway", "workers", "1: a value from 1, in processes"),
        ("economics", "pue", "1.2: a value from 1 up to 5"),
    ],
)
def test_a_value_that_is_no_number_is_told_what_the_setting_allows_wherever_it_stands(folder, section, key, bounds):
    variable = f"OWNWARD_{section}_{key}".upper()
    with pytest.raises(ConfigError, match=r"not a (whole )?number") as caught:
        load(folder, environ={**HOME, variable: "two"})
    assert f"Write {variable}={bounds}" in str(caught.value)
    write(folder, f"[{section}]\n{key} = 'two'\n")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert f"Write {key} = {bounds}" in str(caught.value)


def test_a_key_in_the_wrong_section_is_told_its_own(folder):
    write(folder, "workers = 2\n[gateway]\ndrain_s = 5\n")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    told = "\n".join(str(fault) for fault in caught.value.faults)
    assert "ownward.toml:1: workers is not a key of this table. Write it under [gateway]" in told
    assert "ownward.toml:3: gateway.drain_s is not a key of this table. Write it under [server]" in told


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("OWNWARD_GATEWAY_GATHER_STREAM_S", "2s", "is 2.0. Write a value from 0 up to 1, in seconds"),
        ("OWNWARD_GATEWAY_DEADLINE_S", "0", "is 0.0. Write a value from 0.001, in seconds"),
        ("OWNWARD_GATEWAY_MAX_BODY_BYTES", "0", "is 0. Write a value from 1, in bytes"),
        ("OWNWARD_GATEWAY_RETRY_FRACTION", "2", "is 2.0. Write a value from 0 up to 1"),
        ("OWNWARD_ECONOMICS_USD_PER_KWH", "-1", "is -1. Write a value from 0, in USD per kWh"),
    ],
)
def test_bounds_are_told_with_their_unit(folder, variable, text, told):
    with pytest.raises(ConfigError) as caught:
        load(folder, environ={**HOME, variable: text})
    (fault,) = caught.value.faults
    assert str(fault).endswith(f"{told}.")


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("OWNWARD_SERVER_DRAIN_S", "2m", "server.drain_s", 120.0),
        ("OWNWARD_GATEWAY_MAX_BODY_BYTES", "1MiB", "gateway.max_body_bytes", 1 << 20),
        ("OWNWARD_GATEWAY_MAX_BODY_BYTES", "2048", "gateway.max_body_bytes", 2048),
        ("OWNWARD_GATEWAY_REQUIRES_KEYS", "yes", "gateway.requires_keys", True),
        ("OWNWARD_GATEWAY_RETRY_FRACTION", "0.5", "gateway.retry_fraction", 0.5),
        ("OWNWARD_ECONOMICS_USD_PER_KWH", "0.1", "economics.usd_per_kwh", Decimal("0.1")),
        (
            "OWNWARD_ECONOMICS_USD_PER_KWH_CHECKED_ON",
            "2026-01-02",
            "economics.usd_per_kwh_checked_on",
            date(2026, 1, 2),
        ),
        ("OWNWARD_LEDGER_DURABILITY", "power", "ledger.durability", "power"),
        ("OWNWARD_LEDGER_DURABILITY", "", "ledger.durability", "process"),
    ],
)  # fmt: skip
def test_texts_of_the_environment_become_values(folder, variable, text, key, value):
    """An empty variable is as good as none."""
    settings = load(folder, environ={**HOME, variable: text})
    section, _, name = key.partition(".")
    assert getattr(getattr(settings, section), name) == value


@pytest.mark.parametrize("text", ["1e999999999", "nan", "inf", "0x10", "9" * 5000, "\x00", "٣"])
def test_hostile_texts_are_faults(folder, text):
    for variable in ("OWNWARD_ENGINE_SLOTS", "OWNWARD_GATEWAY_MAX_BODY_BYTES", "OWNWARD_SERVER_DRAIN_S"):
        if (variable, text) == ("OWNWARD_ENGINE_SLOTS", "٣"):
            continue  # a digit three is a three
        with pytest.raises(ConfigError):
            load(folder, environ={**HOME, variable: text})


def test_paths_count_from_the_file_that_states_them(folder):
    """A relative path in a file is relative to the file; on the command line, to where one stands."""
    write(folder, '[ledger]\npath = "l.db"\n[engine]\ncache_dir = "/tmp/w"\n', "etc/ownward.toml")
    settings = load(folder, config_file=folder / "etc/ownward.toml", flags={"server.plan_file": Path("p.toml")})
    assert settings.ledger.path == folder / "etc/l.db"
    assert settings.engine.cache_dir == Path("/tmp/w")
    assert settings.server.plan_file == folder / "p.toml"


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"[server\n", b"a\x00b", b"#" * (1 << 20) + b"#", b"[server]\nport=" * 2])
def test_hostile_files_are_faults(folder, raw):
    (folder / "ownward.toml").write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert "ownward.toml" in str(caught.value)


def test_a_tariff_carries_its_source(folder):
    write(folder, "[economics]\nusd_per_kwh = 0.31\nusd_per_kwh_basis = 'measured'\n"
                  "usd_per_kwh_source = 'bill of October'\nusd_per_kwh_checked_on = 2026-10-31\n")  # fmt: skip
    tariff = load(folder).economics.electricity
    assert (tariff.value, tariff.basis, tariff.source) == (Decimal("0.31"), "measured", "bill of October")
    assert load(folder, config_file=write(folder, "", "empty.toml")).economics.electricity.basis == "assumed"


def test_the_example_lists_every_key_and_equals_the_defaults(folder):
    """The file in the repository is fresh, loads, and changes nothing; keys that it leaves out it shows as comments."""
    text = (ROOT / "ownward.example.toml").read_text(encoding="utf-8")
    assert text == config.example_toml()
    assert load(folder, config_file=write(folder, text)) == load(folder, config_file=write(folder, "", "empty.toml"))
    uncommented = re.sub(r"(?m)^# (\w+ = )", r"\1", text)
    found = origins(load(folder, config_file=write(folder, uncommented)))
    assert [key for key, origin in found.items() if origin == "default"] == []


def test_the_reference_names_every_key_and_variable(folder):
    text = config.reference_markdown()
    for each in config.effective(load(folder)):
        assert f"`{each.key.partition('.')[2]}`" in text
        assert f"`{each.variable}`" in text
        assert each.doc in text
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    assert text in page, "docs/reference/configuration.md is stale: put config.reference_markdown() into it"


def test_the_record_is_json(folder):
    record = json.loads(to_json(config.as_record(load(folder))))
    assert record["schema"] == "ownward.config/1"
    (port,) = [each for each in record["settings"] if each["key"] == "server.port"]
    assert port["value"] == 8484
    assert port["origin"] == "default"


def test_settings_made_in_code_hold_the_same_bounds():
    with pytest.raises(ConfigError, match="70000"):
        ServerSettings(port=70_000)
    assert Settings().server.port == config.DEFAULT_PORT


# Secrets.


def test_a_variable_that_holds_a_secret_is_no_unknown_setting(folder):
    """The ledger's address stands in a variable of any name, also of ours; only its name is shown."""
    name = "OWNWARD_LEDGER_DSN"
    environ = {**HOME, name: "postgresql://me:pw@host/db", "OWNWARD_LEDGER_POSTGRES_DSN_ENV": name}
    settings = load(folder, environ=environ)
    assert settings.ledger.postgres_dsn_env == "OWNWARD_LEDGER_DSN"
    assert "me:pw" not in to_json(config.as_record(settings))


def test_a_secret_in_place_of_a_name_is_not_shown(folder):
    with pytest.raises(ConfigError) as caught:
        load(folder, environ={**HOME, "OWNWARD_LEDGER_POSTGRES_DSN_ENV": "postgresql://me:pw@host/db"})
    assert "pw" not in str(caught.value)


def test_an_address_in_place_of_the_ledgers_file_is_refused_without_its_password_and_told_where_it_belongs(folder):
    """As a path it would be a ledger in a folder here, which no other gateway shares, with the password for a name."""
    address = "postgresql://ada:s3cret@db.internal/books"
    write(folder, f'[ledger]\npath = "{address}"\n')
    for environ in (HOME, {**HOME, "OWNWARD_LEDGER_PATH": address}):
        with pytest.raises(ConfigError, match="is the address of a database, not a path") as caught:
            load(folder, environ=environ)
        assert "its name into postgres_dsn_env under [ledger]" in str(caught.value)
        assert "s3cret" not in str(caught.value)


def test_an_empty_path_is_told_with_an_example_of_its_own_kind(folder):
    write(folder, '[server]\ntls_cert_file = ""\n')
    with pytest.raises(ConfigError, match=r'Write tls_cert_file = "tls/chain\.pem"'):
        load(folder)


def test_a_secret_is_read_by_name():
    assert config.resolve_secret("KEY", environ={"KEY": " s3cret\n"}) == "s3cret"


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("KEY", {}),
        ("KEY", {"KEY": "  "}),
        ("KEY", {"KEY": "s3cret\r\nx-evil: s3cret"}),
        ("KEY", {"KEY": "s3crét"}),
        ("sk-s3cret", {}),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_by_name_alone(name, environ):
    with pytest.raises(ConfigError) as caught:
        config.resolve_secret(name, environ=environ)
    assert "s3cr" not in str(caught.value)


def test_the_public_names_are_what_is_there():
    assert sorted(config.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == config.__all__
    assert all(hasattr(config, name) for name in config.__all__)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ('workers = "two"', 'gateway.workers is "two", not a whole number. Write workers = 1: a value from 1,'),
        ('workers = "4"', 'gateway.workers is "4", not a whole number. Write workers = 4: a value from 1,'),
        ("max_attempts = 1.5", "gateway.max_attempts is 1.5, not a whole number. Write max_attempts = 6: a value"),
    ],
)
def test_what_is_told_to_write_is_what_was_meant_or_the_default_and_nothing_that_would_do_harm(folder, stated, told):
    write(folder, f"[gateway]\n{stated}\n")
    with pytest.raises(ConfigError) as refused:
        load(folder)
    assert told in str(refused.value)


def test_every_size_may_be_written_with_its_unit(folder):
    sizes = [item.key for item in config.effective(load(folder)) if item.key.partition(".")[2].find("bytes") >= 0]
    assert len(sizes) >= 5
    for key in sizes:
        section, _, name = key.partition(".")
        write(folder, f'[{section}]\n{name} = "32KiB"\n')
        settings = load(folder)
        assert getattr(getattr(settings, section), name) == 32 * 1024, key


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder that somebody is in")
def test_a_current_folder_that_was_deleted_is_told_and_no_fault_of_ours(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="the current folder cannot be determined: No such file or directory"):
        config.load(environ=HOME)
