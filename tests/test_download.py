"""Downloads against a server of our own on this machine: continued, compared, unpacked, and nothing half written."""

import hashlib
import io
import re
import sys
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tmrn_edu.data import download
from tmrn_edu.data.download import Archive, get, unpack
from tmrn_edu.errors import InputError

pooch = pytest.importorskip("pooch")
MEMBERS = {f"DAVIS/{t}.bin": np.random.default_rng(t).bytes(40_000) for t in range(3)}


class Shelf(BaseHTTPRequestHandler):
    """Serves `server.content`, with Range where `server.ranges`; closes the first connection after `server.broken` bytes."""

    def do_GET(self):
        content, wanted = self.server.content, self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if self.path != "/data.zip":
            return self.send_error(404)
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.states_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.broken])
        self.server.broken = None
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def content():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def server(content, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    server.content, server.asked, server.ranges, server.broken, server.states_length = content, [], True, None, True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def archive(server, content, monkeypatch):
    """The data set "ours", of known size and checksum; `offer` changes what is known of it."""
    url = f"http://127.0.0.1:{server.server_port}/data.zip"
    archive = Archive(url, "ours.zip", "Ours", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(download.DATA_SETS, "ours", (archive,))
    return archive


def offer(monkeypatch, archive, **changes):
    monkeypatch.setitem(download.DATA_SETS, "ours", (replace(archive, **changes),))


def refuses(message, *arguments):
    with pytest.raises(InputError, match=re.escape(message)):
        get(*arguments)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_get(archive, server, tmp_path):
    done = get("ours", tmp_path / "data")
    assert {name: (tmp_path / "data/Ours" / name).read_bytes() for name in MEMBERS} == MEMBERS
    assert files(tmp_path / "data") == [*(f"Ours/{name}" for name in MEMBERS), "ours.zip"]
    assert (done.folder, done.archives, done.notes) == (tmp_path / "data/Ours", (tmp_path / "data/ours.zip",), ())
    assert done.text() == f"ours is in {done.folder}; {done.archives[0]} may be deleted"
    get("ours", tmp_path / "data")
    assert server.asked == [None]  # it was there already


@pytest.mark.parametrize("checksum", [True, False])
def test_a_broken_connection_is_continued(archive, server, content, tmp_path, monkeypatch, checksum):
    if not checksum:
        offer(monkeypatch, archive, sha256=None, size=None)
    monkeypatch.setattr(download, "BLOCK", 1000)
    server.broken = len(content) // 2
    refuses(f" of {len(content):,} bytes; they are kept in {tmp_path / 'ours.zip.part'}, call again", "ours", tmp_path)
    assert files(tmp_path) == ["ours.zip.part"]
    kept = (tmp_path / "ours.zip.part").stat().st_size
    assert len(content) // 2 - 1000 < kept <= len(content) // 2
    done = get("ours", tmp_path)
    assert server.asked == [None, f"bytes={kept}-"]
    assert (tmp_path / "ours.zip").read_bytes() == content and not (tmp_path / "ours.zip.part").exists()
    assert checksum or hashlib.sha256(content).hexdigest() in done.text()


def test_a_server_without_ranges_starts_again(archive, server, content, tmp_path):
    server.ranges = False
    (tmp_path / "ours.zip.part").write_bytes(content[:1000])
    get("ours", tmp_path)
    assert (tmp_path / "ours.zip").read_bytes() == content


def test_a_part_that_is_whole_already(archive, server, content, tmp_path):
    """Interrupted between the last byte and the name; and a part that is longer than the file."""
    (tmp_path / "ours.zip.part").write_bytes(content)
    get("ours", tmp_path)
    assert (tmp_path / "ours.zip").read_bytes() == content
    (tmp_path / "ours.zip").unlink()
    (tmp_path / "ours.zip.part").write_bytes(content + b"more")
    get("ours", tmp_path)
    assert (tmp_path / "ours.zip").read_bytes() == content


def test_wrong_bytes_leave_nothing(archive, server, content, tmp_path):
    server.content = bytes(len(content))
    refuses("data.zip is not the file expected, and was deleted: SHA256 hash", "ours", tmp_path)
    assert files(tmp_path) == []


def test_another_size_is_said_before_the_download(archive, server, content, tmp_path):
    server.content = content + b"more"
    refuses(f"has {len(content) + 4:,} bytes, expected {len(content):,}: the file has been changed", "ours", tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("damage", ["no zip", "inside", "too long"])
def test_without_checksum_the_zip_is_read_through(archive, server, content, tmp_path, monkeypatch, damage):
    offer(monkeypatch, archive, sha256=None, size=None)
    if damage == "too long":  # a part of something else, that the server goes on from
        (tmp_path / "ours.zip.part").write_bytes(bytes(100))
    else:
        server.content = (
            b"sign in first" if damage == "no zip" else content.replace(MEMBERS["DAVIS/1.bin"][:99], bytes(99))
        )
    refuses("bytes that are no whole zip, deleted", "ours", tmp_path)
    assert files(tmp_path) == []


def test_a_server_that_states_no_length(archive, server, content, tmp_path, monkeypatch):
    offer(monkeypatch, archive, sha256=None, size=None)
    server.states_length = False
    get("ours", tmp_path)
    assert (tmp_path / "ours.zip").read_bytes() == content


def test_no_such_file_or_server(archive, server, tmp_path, monkeypatch):
    offer(monkeypatch, archive, url=archive.url.replace("data.zip", "gone.zip"))
    refuses("gone.zip could not be fetched: 404", "ours", tmp_path)
    offer(monkeypatch, archive, url="http://127.0.0.1:1/data.zip")
    (tmp_path / "ours.zip.part").write_bytes(b"12345")
    refuses("5 bytes are kept in", "ours", tmp_path)


def test_a_folder_that_cannot_be_written(archive, tmp_path):
    (tmp_path / "data").write_text("a file")
    refuses("could not be fetched", "ours", tmp_path / "data")


def test_unpacking_is_continued(content, tmp_path):
    (tmp_path / "x.zip").write_bytes(content)
    assert len(unpack(tmp_path / "x.zip", tmp_path / "out")) == 3
    (tmp_path / "out/DAVIS/1.bin").write_bytes(b"half")
    assert unpack(tmp_path / "x.zip", tmp_path / "out") == [tmp_path / "out/DAVIS/1.bin"]
    assert (tmp_path / "out/DAVIS/1.bin").read_bytes() == MEMBERS["DAVIS/1.bin"]
    (tmp_path / "x.zip").write_bytes(content[:-50])
    with pytest.raises(InputError, match="cannot unpack .*x.zip into"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_data_sets_by_hand(tmp_path):
    refuses("youtube-vos has no direct link: fetch it yourself from https://youtube-vos.org", "youtube-vos", tmp_path)
    refuses("data set 'coco' is not known; known are davis2017, davis2016, duts, ecssd, youtube-vos", "coco", tmp_path)


def test_the_list_is_sound():
    archives = [archive for archives in download.DATA_SETS.values() for archive in archives]
    assert len({archive.file for archive in archives}) == len(archives)
    for archive in archives:
        assert archive.url.startswith("https://") and archive.file.endswith(".zip")
        assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256) and archive.size
    assert not set(download.DATA_SETS) & set(download.BY_HAND)


def test_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    refuses("downloading needs pooch", "davis2017", tmp_path)
