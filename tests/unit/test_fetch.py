"""Fetching: the first source that delivers, against a real HTTP server on loopback."""

import copy
import os
import resource
import signal
import threading
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vitcnn.config import check_config
from vitcnn.data import fetch as fetch_module
from vitcnn.data.content import content_now
from vitcnn.data.fetch import fetch
from vitcnn.data.sources import Source
from vitcnn.errors import StudyError
from vitcnn.files import write_json

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `script` lists what to do with the next requests, then it is well-behaved."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.ranges, self.etag = [], [], True, '"one"'
        self.stalled = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        step = server.script.pop(0) if server.script else "whole"
        if isinstance(step, int):
            self.send_response(step)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if step == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            server.stalled.wait(30)
            return
        if step == "break":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    yield server
    server.stalled.set()
    server.shutdown()
    server.server_close()


def url(server, checksum=None):
    address = f"http://127.0.0.1:{server.server_port}/data.tar.gz"
    return f"{address}#{checksum}" if checksum else address


def fetched(places, downloads):
    """All that fetch() says of `cifar10` from these places."""
    what, origin = fetch("cifar10", places, downloads)
    return what | origin


def content_of(manifest):
    return Path(manifest["path"]).read_bytes()


@pytest.mark.parametrize(
    "checksum", [None, f"md5={md5(CONTENT).hexdigest()}", f"sha256={sha256(CONTENT).hexdigest()}"]
)
def test_a_url(checksum, server, tmp_path):
    manifest = fetched([url(server, checksum)], tmp_path)
    assert content_of(manifest) == CONTENT
    assert manifest["sha256"] == sha256(CONTENT).hexdigest()
    assert manifest["bytes"] == len(CONTENT)
    assert manifest["source"] == url(server, checksum)
    assert manifest["failed"] == []
    assert manifest["fetched_at"]
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["data.tar.gz"]


def test_a_finished_download_is_not_repeated(server, tmp_path):
    for _ in range(2):
        fetched([url(server, f"md5={md5(CONTENT).hexdigest()}")], tmp_path)
    assert len(server.requests) == 1


def test_a_broken_connection_is_resumed(server, tmp_path):
    server.script = ["break", "break"]
    manifest = fetched([url(server)], tmp_path)
    assert content_of(manifest) == CONTENT
    first, second = (int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.requests[1:])
    assert server.requests[0] is None
    assert 0 < first < second < len(CONTENT)


def test_a_stalling_server_is_left_and_asked_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT", (1, 0.2))
    server.script = ["stall"]
    assert Path(fetched([url(server)], tmp_path)["path"]).read_bytes() == CONTENT
    assert server.requests[1].startswith("bytes=")  # what had come is kept
    server.script = ["stall"] * fetch_module.ATTEMPTS
    server.ranges = False
    with pytest.raises(StudyError, match=r"Read timed out.*, 6 times"):
        fetched([url(server, checksum="md5=" + "0" * 32)], tmp_path / "other")


def test_a_full_disk_while_downloading(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StudyError, match=r"data\.tar\.gz\.part: could not be written: File too large"):
            fetched([url(server)], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.rglob("data.tar.gz"))
    assert Path(fetched([url(server)], tmp_path)["path"]).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.script, server.ranges = ["break"], False
    assert content_of(fetched([url(server)], tmp_path)) == CONTENT


def test_a_file_replaced_meanwhile_is_not_mixed(server, tmp_path):
    server.script = ["break"] * fetch_module.ATTEMPTS
    with pytest.raises(StudyError):
        fetched([url(server)], tmp_path)
    server.etag = '"two"'
    server.requests.clear()
    assert content_of(fetched([url(server)], tmp_path)) == CONTENT
    assert server.requests[0].startswith("bytes=")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_tried_again(status, server, tmp_path):
    server.script = [status, status]
    assert content_of(fetched([url(server)], tmp_path)) == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_where_credentials_are_read(status, server, tmp_path):
    server.script = [status]
    with pytest.raises(StudyError, match=rf"answered {status}: it wants credentials.*~/\.netrc"):
        fetched([url(server)], tmp_path)


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, fetch_module.ATTEMPTS)])
def test_a_refusal_is_reported(status, tries, server, tmp_path):
    server.script = [status] * 10
    with pytest.raises(StudyError, match=f"the server answered {status}"):
        fetched([url(server)], tmp_path)
    assert len(server.requests) == tries
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_wrong_checksum_is_an_error_and_the_file_is_not_used(server, tmp_path):
    with pytest.raises(
        StudyError, match=f"its md5 is {md5(CONTENT).hexdigest()}, not {'0' * 32}; the file is not used"
    ):
        fetched([url(server, f"md5={'0' * 32}")], tmp_path)
    assert not list(tmp_path.rglob("data.tar.gz*"))
    local = tmp_path / "local.zip"
    local.write_bytes(b"x")
    with pytest.raises(StudyError, match="the file is not used"):
        fetched([f"{local}#md5={'0' * 32}"], tmp_path)
    assert local.read_bytes() == b"x"


def test_the_next_place_is_tried_and_the_failures_are_kept(server, tmp_path):
    server.script = [404]
    good = tmp_path / "good.zip"
    good.write_bytes(b"good")
    manifest = fetched([url(server), str(tmp_path / "absent"), str(good)], tmp_path / "downloads")
    assert manifest["path"] == str(good)
    assert [failure["reason"] for failure in manifest["failed"]] == [
        "the server answered 404",
        "there is nothing at this path",
    ]


def test_a_list_that_is_exhausted_names_each_place_with_its_reason(server, tmp_path, monkeypatch):
    def absent(*_, **__):
        raise StudyError("Kaggle did not deliver")

    monkeypatch.setitem(fetch_module._FETCHERS, "kaggle", absent)
    server.script = [404]
    closed = "http://127.0.0.1:9/x.zip"
    with pytest.raises(StudyError) as error:
        fetched([url(server), "/nowhere/at/all", closed, "kaggle:nobody/nothing"], tmp_path)
    message = str(error.value)
    assert message.startswith("cifar10: no source delivered:")
    assert f"- {url(server)}: the server answered 404" in message
    assert "- /nowhere/at/all: there is nothing at this path" in message
    assert f"- {closed}: the connection failed" in message
    assert "- kaggle:nobody/nothing: Kaggle" in message
    assert "--config 'datasets={cifar10: {source: [PATH]}}'" in message


def test_a_source_that_is_none(tmp_path):
    with pytest.raises(StudyError, match=r"file:///x: file:// is not supported"):
        fetched(["file:///x"], tmp_path)


def test_a_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"12345")
    manifest = fetched([str(tmp_path / "data")], tmp_path)
    assert (manifest["kind"], manifest["files"], manifest["bytes"]) == ("folder", 1, 5)
    with pytest.raises(StudyError, match="a folder, which has no checksum; leave out #md5=…"):
        fetched([f"{tmp_path / 'data'}#md5={'0' * 32}"], tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kaggle:a/b-c", Source("kaggle", "a/b-c", None)),
        (
            "https://x.org/a%20b.zip#sha256=" + "a" * 64,
            Source("url", "https://x.org/a%20b.zip", ("sha256", "a" * 64)),
        ),
        ("data/my file.zip", Source("path", "data/my file.zip", None)),
        ("embedded:cifar10", Source("embedded", "cifar10", None)),
    ],
)
def test_sources(text, expected):
    assert Source.parse(text) == expected


# What fetching would deliver now -------------------------------------------------------------------


def write_fetched(folder, places):
    what, origin = fetch("cifar10", places, folder / "download")
    write_json(folder / "fetched_from.json", origin)
    write_json(folder / "fetched.json", what)
    return what["sha256"]


@pytest.mark.parametrize(
    "text",
    [
        "https://me:secret@x.org/a.zip",
        "https://x.org/a.zip?token=secret",
        "https://x.org/a.zip?part=1&X-Amz-Signature=secret",
        "https://x.org/a.zip?sv=2024&sig=secret",
    ],
)
def test_secrets_have_no_place_in_a_source(text, default_config):
    config = copy.deepcopy(default_config)
    config["datasets"]["cifar10"]["source"] = [text]
    with pytest.raises(StudyError, match=r"datasets.cifar10.source: https://.*netrc") as refused:
        check_config(config)
    assert "secret" not in str(refused.value)


def test_the_content_of_a_local_source_follows_its_bytes_alone(tmp_path):
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / "a.zip"
    archive.write_bytes(b"12345")
    for place in (archive, tmp_path / "data"):
        sha = write_fetched(tmp_path, [str(place)])
        moved = tmp_path / "moved"
        now = [content_now([str(place)], tmp_path / "fetched.json")]
        os.utime(archive, (1, 1))
        now.append(content_now([str(place)], tmp_path / "fetched.json"))
        place.rename(moved)
        now.append(content_now([str(moved)], tmp_path / "fetched.json"))
        now.append(content_now([str(place), str(moved)], tmp_path / "fetched.json"))
        assert now == [sha] * 4
        moved.rename(place)
        archive.write_bytes(b"12346")
        os.utime(archive, (1, 1))
        assert content_now([str(place)], tmp_path / "fetched.json") not in (sha, None)
        archive.write_bytes(b"12345")


def test_the_content_of_a_url_is_known_by_its_place_or_checksum(server, tmp_path):
    sha = write_fetched(tmp_path, [url(server)])
    what = tmp_path / "fetched.json"
    assert content_now([url(server)], what) == sha
    assert content_now([f"https://elsewhere.org/x.zip#sha256={sha}"], what) == sha
    assert content_now(["https://elsewhere.org/x.zip"], what) is None
    assert content_now(["/nowhere"], what) is None


def test_a_source_that_failed_before_does_not_make_stale_what_came_from_the_next(tmp_path):
    (tmp_path / "bad").write_bytes(b"bad")
    (tmp_path / "good").write_bytes(b"good")
    places = [f"{tmp_path / 'bad'}#md5={'0' * 32}", str(tmp_path / "good")]
    assert content_now(places, tmp_path / "fetched.json") is None
    assert write_fetched(tmp_path, places) == content_now(places, tmp_path / "fetched.json")
