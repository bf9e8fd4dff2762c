"""Where settings come from, in which order, and what a damaged file does (F21)."""

from pathlib import Path

import pytest

from contract.errors import StudioError
from studio.settings import Settings, load_settings


def load(folder: Path, *argv: str, **environ: str) -> Settings:
    return load_settings(argv, environ, folder)


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.host, settings.port, settings.worker, settings.lan) == ("127.0.0.1", 7860, "process", False)
    assert settings.data_dir == tmp_path and settings.model_dirs == (tmp_path / "models",)
    assert settings.password is None and settings.notices == ()


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('port = 1\nhost = "a"\nlan = true\nworker = "inline"\nmodels = ["more"]\n')
    settings = load(
        tmp_path,
        "--port",
        "3",
        "--no-browser",
        "--models",
        str(tmp_path / "x"),
        DARKROOM_PORT="2",
        DARKROOM_HOST="b",
        DARKROOM_PREVIEWS="off",
    )
    assert (settings.port, settings.host, settings.worker) == (3, "b", "inline")
    assert not settings.open_browser and not settings.previews
    assert settings.model_dirs == (tmp_path / "models", tmp_path / "more", tmp_path / "x")


@pytest.mark.parametrize(
    ("argv", "environ", "host"),
    [
        ((), {}, "127.0.0.1"),
        (("--lan",), {}, "0.0.0.0"),
        ((), {"DARKROOM_LAN": "on"}, "0.0.0.0"),
        ((), {"SPACE_HOST": "x.hf.space"}, "0.0.0.0"),
        (("--lan", "--host", "10.0.0.7"), {}, "10.0.0.7"),
        (("--host", "::1"), {}, "::1"),
        (("--host", "localhost"), {}, "localhost"),
    ],
)
def test_who_lets_the_network_in_listens_to_it(
    tmp_path: Path, argv: tuple[str, ...], environ: dict[str, str], host: str
) -> None:
    assert load(tmp_path, *argv, **environ).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.local", ""])
def test_a_host_alone_does_not_let_the_network_in(tmp_path: Path, host: str) -> None:
    with pytest.raises(StudioError, match="lets the network in"):
        load(tmp_path, "--host", host)
    with pytest.raises(StudioError, match="lets the network in"):
        load(tmp_path, DARKROOM_HOST=host or "0.0.0.0")


def test_the_data_folder_moves_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = load(tmp_path, "--data", str(data), DARKROOM_PORT="9")
    settings.make_folders()
    assert {p.name for p in data.iterdir()} == {"outputs", "inputs", "tmp", "thumbnails", "logs"}
    assert (data / "tmp").stat().st_mode & 0o777 == 0o700


def test_the_password_is_read_from_the_environment_only_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('password = "in a file"\n')
    settings = load(tmp_path, DARKROOM_PASSWORD="hunter2", SPACE_HOST="x.hf.space")
    assert settings.password == "hunter2" and "hunter2" not in repr(settings)
    assert settings.space_host == "x.hf.space"
    with pytest.raises(SystemExit):
        load(tmp_path, "--password", "x")


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (("--port", "70000"), {}, "port is “70000”: use 0 to 65535."),
        ((), {"DARKROOM_PORT": "abc"}, "DARKROOM_PORT is “abc”, not a whole number."),
        ((), {"DARKROOM_LAN": "maybe"}, "DARKROOM_LAN is “maybe”, not true or false."),
        ((), {"DARKROOM_WORKER": "ray"}, "worker is “ray”: use process or inline."),
        ((), {"DARKROOM_MAX_JOBS": "0"}, "max_jobs is “0”: use 1 or more."),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, argv: tuple[str, ...], environ: dict[str, str], words: str) -> None:
    with pytest.raises(StudioError) as refused:
        load(tmp_path, *argv, **environ)
    assert refused.value.message == words


def test_a_backend_that_is_not_installed_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path).backend == "auto"
    assert load(tmp_path, "--backend", "openvino").backend == "openvino"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudioError, match="OpenVINO, which is not installed") as refused:
        load(tmp_path, DARKROOM_BACKEND="openvino")
    assert "`python3 launch.py --openvino`" in refused.value.hint


def test_argparse_names_the_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (("--port", "abc"), ("--worker", "ray"), ("--nonsense",)):
        with pytest.raises(SystemExit):
            load(tmp_path, *argv)
        assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"port = ", b"\xff\xfe", b"[[[[", b""])
def test_f21_a_damaged_file_is_left_alone_and_its_backup_used(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(damage)
    (tmp_path / "settings.toml.bak").write_text("port = 5\n")
    settings = load(tmp_path)
    assert settings.port == 5 and any("settings.toml.bak is used" in n for n in settings.notices)
    assert path.read_bytes() == damage
    (tmp_path / "settings.toml.bak").unlink()
    assert load(tmp_path).port == 7860


def test_f21_a_folder_in_its_place_or_no_permission_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").mkdir()
    settings = load(tmp_path)
    assert settings.port == 7860 and "can't be read" in settings.notices[0]


def test_f21_what_a_newer_version_wrote_is_named_and_the_rest_used(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 5\nhologram = true\nworker = 7\n")
    settings = load(tmp_path)
    assert settings.port == 5 and settings.worker == "process"
    assert settings.notices == (
        "settings.toml: “hologram” is not used (there is no such setting).",
        "settings.toml: “worker” is not used (use text).",
    )


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StudioError, match="The data folder is a file, not a folder"):
        load(tmp_path, "--data", str(tmp_path / "data")).make_folders()


@pytest.mark.parametrize(
    "path,kept",
    [("/darkroom", "/darkroom"), ("/darkroom/", "/darkroom"), ("/a/b-c.d", "/a/b-c.d"), ("/", ""), ("", "")],
)
def test_a_root_path_is_kept_without_its_last_slash(tmp_path: Path, path: str, kept: str) -> None:
    assert load_settings(["--root-path", path], {}, tmp_path).root_path == kept
    assert load_settings([], {"DARKROOM_ROOT_PATH": path}, tmp_path).root_path == kept


@pytest.mark.parametrize(
    "path",
    ["darkroom", "//evil.example", "/a//b", "/a b", "/../x", "http://a.example/x", "/a?b", "/a#b", '/"x', "/\u00e4"],
)
def test_a_root_path_that_is_none_is_refused_in_words(tmp_path: Path, path: str) -> None:
    with pytest.raises(StudioError, match="root_path"):
        load_settings(["--root-path", path], {}, tmp_path)


def test_names_and_proxies_are_lists_in_every_source(tmp_path: Path) -> None:
    names = "Darkroom.example, other.example:8443,,darkroom.example"
    (tmp_path / "settings.toml").write_text(f'trusted_hosts = "{names}"\n')
    wanted = ("darkroom.example", "other.example:8443")
    assert load_settings([], {}, tmp_path).trusted_hosts == wanted
    assert load_settings(["--trusted-hosts", names], {}, tmp_path / "x").trusted_hosts == wanted
    found = load_settings([], {"DARKROOM_TRUSTED_PROXIES": "10.0.0.0/8, ::1,192.168.1.2"}, tmp_path)
    assert found.trusted_proxies == ("10.0.0.0/8", "::1", "192.168.1.2")
    assert load_settings([], {}, tmp_path / "x").trusted_proxies == ()


@pytest.mark.parametrize(
    "argument",
    [
        ("--trusted-hosts", "https://a.example"),
        ("--trusted-hosts", "a.example/x"),
        ("--trusted-hosts", "*"),
        ("--trusted-proxies", "proxy.example"),
        ("--trusted-proxies", "10.0.0.300"),
        ("--trusted-proxies", "10.0.0.0/99"),
    ],
)
def test_names_and_addresses_that_are_none_are_refused_in_words(tmp_path: Path, argument: tuple[str, str]) -> None:
    with pytest.raises(StudioError, match=argument[0].strip("-").replace("-", "_")):
        load_settings(list(argument), {}, tmp_path)
