import hashlib
import http.server
import threading
import time
import zipfile

import numpy as np
import pytest

from pcgen.errors import ConfigurationError, DataError
from pcgen.io import download, extract_zip

DATA = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA at any path; `mood` says how badly, `etag` is the tag sent with it, None for none."""

    daemon_threads = True
    mood = "good"
    etag = '"one"'
    data = DATA

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, data = self.server, self.server.data
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.mood == "404":
            self.send_error(404)
            return
        if server.mood == "silent":
            time.sleep(2)
            return
        start = 0
        if asked and server.mood != "ignores ranges" and self.headers.get("If-Range") in (None, server.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if server.etag is not None:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        self.wfile.write(body[: len(body) // 3] if server.mood == "breaks off" else body)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def get(server, folder, **arguments):
    return download(server.url, folder / "f.bin", **({"progress": False, "timeout": 5} | arguments))


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_download_checks_and_keeps(server, tmp_path):
    sums = {"sha256": hashlib.sha256(DATA).hexdigest().upper(), "md5": hashlib.md5(DATA).hexdigest()}
    path = get(server, tmp_path / "new", **sums)
    assert path.read_bytes() == DATA
    assert names(tmp_path / "new") == ["f.bin"]
    get(server, tmp_path / "new", **sums)
    get(server, tmp_path / "new")
    assert len(server.ranges) == 1  # what is there is not fetched again
    path.write_bytes(b"damaged")
    assert get(server, tmp_path / "new", **sums).read_bytes() == DATA


def test_a_broken_connection_resumes(server, tmp_path):
    server.mood = "breaks off"
    with pytest.raises(DataError, match=r"after 100000 of 300000 bytes; call again"):
        get(server, tmp_path)
    assert "f.bin" not in names(tmp_path)
    server.mood = "good"
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, "bytes=100000-"]
    assert names(tmp_path) == ["f.bin"]


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ("ignores ranges", True), ("changed file", True), ("lies about the range", True),
        ("no etag", False), ("weak etag", False),
    ],
)  # fmt: skip
def test_starts_again_where_it_cannot_resume(server, tmp_path, change, asks):
    server.data = DATA[:200_000]
    part = tmp_path / "f.bin.part"
    server.mood = "breaks off"
    server.etag = {"no etag": None, "weak etag": 'W/"weak"'}.get(change, server.etag)
    with pytest.raises(DataError):
        get(server, tmp_path)
    assert part.stat().st_size == 200_000 // 3
    server.mood = "good"
    if change == "ignores ranges":
        server.mood = change
    elif change == "changed file":
        server.data, server.etag = DATA[::-1], '"two"'
    elif change == "lies about the range":
        server.data = DATA  # the tag stays, the length does not
    assert get(server, tmp_path).read_bytes() == server.data
    assert names(tmp_path) == ["f.bin"]
    assert server.ranges[:2] == [None, "bytes=66666-" if asks else None]  # without a tag nothing vouches for the rest


def test_a_whole_part_is_not_trusted_blindly(server, tmp_path):
    server.mood = "breaks off"
    with pytest.raises(DataError):
        get(server, tmp_path)
    (tmp_path / "f.bin.part").write_bytes(bytes(len(DATA)))  # as long as it should be, of other content
    server.mood = "good"
    assert get(server, tmp_path).read_bytes() == DATA


def test_wrong_checksum_says_both(server, tmp_path):
    with pytest.raises(DataError, match=f"sha256 is {hashlib.sha256(DATA).hexdigest()}, but {'0' * 64} was expected"):
        get(server, tmp_path, sha256="0" * 64)
    assert names(tmp_path) == []


def test_refused_silent_and_unreachable(server, tmp_path):
    server.mood = "404"
    with pytest.raises(DataError, match=r"file\.bin: the server answers 404"):
        get(server, tmp_path)
    server.mood = "silent"
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no answer for 0\.3 seconds"):
        get(server, tmp_path, timeout=0.3)
    assert time.monotonic() - began < 1.5
    assert names(tmp_path) == []
    with pytest.raises(DataError, match="cannot be reached"):
        download("http://127.0.0.1:9/x", tmp_path / "x", progress=False, timeout=2)
    with pytest.raises(ConfigurationError, match="not an http"):
        download("file:///etc/passwd", tmp_path / "x")


def test_the_bar_goes_to_the_error_stream(server, tmp_path, capfd):
    get(server, tmp_path, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "f.bin" in err


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_extract(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"top/": "", "top/a.txt": "a" * 1000, "top/deep/b.txt": "b"})
    folder = extract_zip(archive, tmp_path / "out" / "here", progress=False)
    assert (folder / "top/a.txt").read_text() == "a" * 1000
    assert (folder / "top/deep/b.txt").read_text() == "b"
    with pytest.raises(DataError, match="already there"):
        extract_zip(archive, folder, progress=False)


def link():
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    return {member: "/etc/passwd"}


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"a": "fine", "../escaped": "x"}, "outside"),
        ({"/absolute": "x"}, "outside"),
        ({"a/../../escaped": "x"}, "outside"),
        ({"C:\\escaped": "x"}, "outside"),
        ({"a\\..\\..\\escaped": "x"}, "outside"),
        (link(), "is a link"),
        ({"bomb": bytes(3_000_000)}, "unpacks to 3000000 bytes, more than the 1000000 allowed"),
    ],
)
def test_hostile_archives(tmp_path, members, word):
    archive = make_zip(tmp_path / "a.zip", members)
    with pytest.raises(DataError, match=word):
        extract_zip(archive, tmp_path / "out", max_bytes=1_000_000, progress=False)
    assert names(tmp_path) == ["a.zip"]


def test_a_member_larger_than_it_says_is_stopped(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"bomb": bytes(3_000_000)})
    data = archive.read_bytes()
    size = (3_000_000).to_bytes(4, "little")
    assert data.count(size) == 2
    archive.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="not a whole zip"):
        extract_zip(archive, tmp_path / "out", max_bytes=1000, progress=False)
    assert names(tmp_path) == ["a.zip"]


def test_damaged_archives(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": DATA, "b": DATA})
    whole = archive.read_bytes()
    for data in (whole[:-200], b"", b"<html>", whole[:1000] + b"\0" * 50 + whole[1050:]):
        archive.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.zip is not a whole zip"):
            extract_zip(archive, tmp_path / "out", progress=False)
        assert names(tmp_path) == ["a.zip"]
    with pytest.raises(DataError, match="does not exist"):
        extract_zip(tmp_path / "none.zip", tmp_path / "out")
