"""Kaggle's own client against a stand-in for Kaggle's API on loopback."""

import io
import json
import resource
import signal
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kagglehub
import pytest
from kagglesdk import kaggle_env

from vitcnn.data import fetch as fetch_module
from vitcnn.data.fetch import fetch
from vitcnn.errors import StudyError

NAMES = [f"train/{number}.txt" for number in range(50)]
SECRET = "0123456789abcdef"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in NAMES:
            file.writestr(name, name * 1000)
    return buffer.getvalue()


class Kaggle(ThreadingHTTPServer):
    """Serves one dataset; `script` lists what to do with the next requests, then it is well-behaved."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.authorization = [], [], set()
        self.content = archive()
        self.stalled, self.was_waited_out = threading.Event(), False

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.authorization.add(self.headers.get("Authorization"))
        self.answer(self.path.rsplit("/", 1)[-1])

    def do_GET(self):
        self.answer("DownloadDataset")

    def answer(self, name):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
        step = server.script.pop(0) if server.script else "whole"
        if isinstance(step, int):
            return self.send(step, b'{"message": "no"}', "text/plain")
        if step == "stall":
            server.was_waited_out = not server.stalled.wait(30)
            self.close_connection = True
            return None
        if name == "GetDataset":
            return self.send(200, json.dumps({"currentVersionNumber": 3}).encode(), "application/json")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = server.content[start:]
        if step == "truncated":  # it claims that this is all
            body = body[: len(body) // 2]
        cut = len(body) // 2 if step == "break" else len(body)
        return self.send(206 if start else 200, body, "application/zip", cut)

    def send(self, status, body, kind, cut=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None and cut < len(body):
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    server = Kaggle()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    yield server
    server.stalled.set()
    server.shutdown()
    server.server_close()


def fetched(tmp_path, places=("kaggle:owner/set",)) -> Path:
    what, origin = fetch("imagenet200", list(places), tmp_path / "downloads")
    assert what["kind"] == "folder"
    return Path(origin["path"])


def is_whole(folder: Path) -> bool:
    return all((folder / name).read_text() == name * 1000 for name in NAMES)


def test_success_once(kaggle, tmp_path):
    assert is_whole(fetched(tmp_path))
    downloads = [name for name, _ in kaggle.requests].count("DownloadDataset")
    assert is_whole(fetched(tmp_path))
    assert [name for name, _ in kaggle.requests].count("DownloadDataset") == downloads == 1


@pytest.mark.parametrize("fault", [429, 500, 503])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_passing_fault_is_tried_again(fault, calls_before, kaggle, tmp_path):
    kaggle.script = ["whole"] * calls_before + [fault, fault]
    assert is_whole(fetched(tmp_path))


@pytest.mark.parametrize("fault", [401, 403])
def test_a_refusal_says_how_to_get_credentials(fault, kaggle, tmp_path):
    kaggle.script = [fault]
    with pytest.raises(StudyError, match=r"API token.*kaggle\.json"):
        fetched(tmp_path)
    assert len(kaggle.requests) == 1


def test_what_is_not_there_is_asked_for_once(kaggle, tmp_path):
    kaggle.script = [404]
    with pytest.raises(StudyError, match="did not deliver: 404"):
        fetched(tmp_path)
    assert len(kaggle.requests) == 1


def test_faults_that_stay_use_up_the_attempts(kaggle, tmp_path):
    kaggle.script = [500] * 100
    with pytest.raises(StudyError, match=rf"500.*, {fetch_module.ATTEMPTS} times"):
        fetched(tmp_path)


def test_a_broken_connection_is_gone_on_with(kaggle, tmp_path):
    kaggle.script = ["whole", "break"]
    assert is_whole(fetched(tmp_path))
    assert any(asked for _, asked in kaggle.requests)


@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_server_that_stalls_is_left_and_asked_again(calls_before, kaggle, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT", (1, 0.3))
    kaggle.script = ["whole"] * calls_before + ["stall"]
    assert is_whole(fetched(tmp_path))
    assert not kaggle.was_waited_out


def test_a_truncated_archive_is_not_taken_for_whole(kaggle, tmp_path):
    kaggle.script = ["whole", "truncated"]
    assert is_whole(fetched(tmp_path))


def test_an_archive_that_stays_truncated_is_an_error_each_time(kaggle, tmp_path):
    kaggle.content = kaggle.content[: len(kaggle.content) // 2]
    for _ in range(2):
        with pytest.raises(StudyError, match="what Kaggle delivered is damaged"):
            fetched(tmp_path)
    kaggle.content = archive()
    assert is_whole(fetched(tmp_path))


def test_a_damaged_archive_of_the_right_size_is_not_kept(kaggle, tmp_path):
    kaggle.content = b"?" * len(kaggle.content)
    with pytest.raises(StudyError, match="what Kaggle delivered is damaged"):
        fetched(tmp_path)
    kaggle.content = archive()
    assert is_whole(fetched(tmp_path))


def test_an_interrupted_extraction_is_done_again(kaggle, tmp_path, monkeypatch):
    extract = zipfile.ZipFile.extractall

    def stop(self, path):
        self.extract(NAMES[0], path)
        (Path(path) / NAMES[1]).write_text("half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "extractall", stop)
    with pytest.raises(KeyboardInterrupt):
        fetched(tmp_path)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", extract)
    assert is_whole(fetched(tmp_path))


def test_a_full_disk_is_said_and_leaves_nothing_to_be_taken_for_whole(kaggle, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StudyError, match=r"could not be written.*File too large"):
            fetched(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert is_whole(fetched(tmp_path))


def test_a_bomb_is_not_unpacked(kaggle, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(20_000_000))
    kaggle.content = buffer.getvalue()
    with pytest.raises(StudyError, match=r"more than 0\.01 GB when it is unpacked.*max_unpacked_gb"):
        fetch("imagenet200", ["kaggle:owner/set"], tmp_path / "downloads", max_unpacked_gb=0.01)
    assert not list(tmp_path.rglob("zeros"))
    assert [name for name, _ in kaggle.requests].count("DownloadDataset") == 1


def test_credentials_that_cannot_be_read_are_said(kaggle, tmp_path, monkeypatch):
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/kaggle.json").write_text('{"username": ')
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "credentials"))
    with pytest.raises(StudyError, match=r"Invalid Kaggle credentials file at .*kaggle\.json"):
        fetched(tmp_path)


def test_the_next_place_is_tried(kaggle, tmp_path):
    kaggle.script = [404]
    assert is_whole(fetched(tmp_path, ["kaggle:owner/gone", "kaggle:owner/set"]))


def test_a_home_that_cannot_be_written(kaggle, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", "/dev/null/cache")
    assert fetched(tmp_path).is_relative_to(tmp_path / "downloads")


def test_credentials_are_used_and_written_nowhere(kaggle, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", SECRET)
    caplog.set_level("DEBUG")
    kaggle.script = [500]
    what, origin = fetch("imagenet200", ["kaggle:owner/set"], tmp_path / "downloads")
    assert any(header and header.startswith("Basic ") for header in kaggle.authorization)
    kaggle.script = [403]
    with pytest.raises(StudyError) as refused:
        fetch("imagenet200", ["kaggle:owner/other"], tmp_path / "downloads")
    said = capfd.readouterr()
    written = [str(what), str(origin), str(refused.value), caplog.text, said.out, said.err]
    assert not any(SECRET in text for text in written)
    assert kagglehub.config.get_kaggle_credentials().key == SECRET
