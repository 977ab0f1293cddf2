"""Downloading, against a server that misbehaves in every way the real ones have."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from replication import files
from replication.datasets import download as download_module
from replication.datasets.download import RawFile, fetch
from replication.datasets.sources import CIFAR10, MNIST, SVHN, Archive
from replication.datasets.transfer import Limits
from replication.errors import DataError, ReplicationError
from tests.archives import RangeHandler, Server, running

CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB
HALF = len(CONTENT) // 2
NAME = "archive.bin"
QUICK = Limits(first_wait=0.01, longest_wait=0.05, connect=2, read=0.3, idle=1.0, window=0.2)

Step = Callable[[RangeHandler], None]


class ScriptedHandler(RangeHandler):
    """Takes the next step of `server.script`; behaves when the script is over."""

    def answer(self) -> None:
        script: list[Step] = self.server.script  # type: ignore[attr-defined]
        (script.pop(0) if script else RangeHandler.answer)(self)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    (folder / "demo").mkdir(parents=True)
    (folder / "demo" / NAME).write_bytes(CONTENT)
    scripted = Server(folder, ScriptedHandler)
    scripted.script = []  # type: ignore[attr-defined]
    with running(scripted):
        yield scripted


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(download_module.MIRROR_VARIABLE, raising=False)


def archive(*servers: Server | str, content: bytes = CONTENT) -> Archive:
    urls = tuple(f"{s.address}/demo/{NAME}" if isinstance(s, Server) else s for s in servers)
    return Archive("demo", NAME, urls, hashlib.md5(content).hexdigest(), len(content))


def get(what: Archive, raw: Path, *, allow_unofficial: bool = False, limits: Limits = QUICK, **kwargs: str) -> RawFile:
    return fetch(what, raw, allow_unofficial=allow_unofficial, limits=limits, **kwargs)


def script(server: Server, *steps: Step) -> None:
    server.script = list(steps)  # type: ignore[attr-defined]


def leftovers(raw: Path) -> list[str]:
    return sorted(path.name for path in raw.rglob("*") if path.is_file() and path.name != NAME)


def truncated(handler: RangeHandler) -> None:
    """Half of the file, and the connection closes."""
    handler.respond(200, CONTENT[:HALF], {"ETag": handler.etag(CONTENT)}, length=len(CONTENT))


def stalled(handler: RangeHandler) -> None:
    """Half of the file, and then nothing for longer than anyone waits."""
    truncated(handler)
    handler.wfile.flush()
    time.sleep(0.8)


def status(code: int, headers: dict[str, str] | None = None) -> Step:
    return lambda handler: handler.respond(code, b"", headers)


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for _, headers in server.requests]


def test_downloads_verifies_and_leaves_nothing_else(server: Server, raw: Path) -> None:
    result = get(archive(server), raw)
    assert result.path == raw / "demo" / NAME
    assert result.path.read_bytes() == CONTENT
    assert result.source.official
    assert leftovers(raw) == []
    get(archive(server), raw)
    assert len(server.requests) == 1  # a verified file is not asked for again


@pytest.mark.parametrize("break_off", [truncated, stalled])
def test_resumes_with_a_range_request(server: Server, raw: Path, break_off: Step) -> None:
    script(server, break_off)
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert server.requests[1][1]["If-Range"] == RangeHandler.etag(CONTENT)


def test_resumes_what_an_earlier_process_left(server: Server, raw: Path) -> None:
    script(server, truncated, status(503), status(503), status(503))
    with pytest.raises(DataError, match="HTTP 503"):
        get(archive(server), raw)
    assert leftovers(raw) == [f"{NAME}.part", f"{NAME}.part.json"]
    server.requests.clear()
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={HALF}-"]
    assert leftovers(raw) == []


def test_complete_part_needs_no_request(server: Server, raw: Path) -> None:
    (raw / "demo").mkdir(parents=True)
    (raw / "demo" / f"{NAME}.part").write_bytes(CONTENT)
    assert get(archive(server), raw).source.official
    assert server.requests == []
    assert leftovers(raw) == []


def test_server_that_ignores_range_starts_over(server: Server, raw: Path) -> None:
    script(server, truncated, lambda handler: handler.respond(200, CONTENT))
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_file_that_changed_between_resumes_starts_over(server: Server, raw: Path) -> None:
    def old_half(handler: RangeHandler) -> None:
        handler.respond(200, b"x" * HALF, {"ETag": '"old"'}, length=len(CONTENT))

    script(server, old_half)
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert server.requests[1][1]["If-Range"] == '"old"'


def test_server_that_joins_different_files_is_asked_again_from_the_start(server: Server, raw: Path) -> None:
    def old_half(handler: RangeHandler) -> None:  # claims to be the same version
        handler.respond(200, b"x" * HALF, {"ETag": handler.etag(CONTENT)}, length=len(CONTENT))

    script(server, old_half)
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-", None]


def test_range_not_satisfiable_starts_over(server: Server, raw: Path) -> None:
    script(server, truncated, status(416, {"Content-Range": "bytes */5"}))
    assert get(archive(server), raw).path.read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-", None]


def test_wrong_range_is_not_appended(server: Server, raw: Path) -> None:
    def other_range(handler: RangeHandler) -> None:
        handler.respond(206, CONTENT, {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"})

    script(server, truncated, other_range)
    assert get(archive(server), raw).path.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_next_mirror_after_a_refusal(server: Server, raw: Path, code: int) -> None:
    script(server, status(code))
    first = f"{server.address}/first"
    assert get(archive(first, server), raw).source.official
    assert [path for path, _ in server.requests] == ["/first", f"/demo/{NAME}"]


def test_retry_after_is_honoured_but_capped(server: Server, raw: Path) -> None:
    script(server, status(503, {"Retry-After": "86400"}))
    started = time.monotonic()
    get(archive(server), raw, limits=attrs.evolve(QUICK, longest_wait=0.4))
    assert 0.4 <= time.monotonic() - started < 5


@pytest.mark.parametrize("wait", ["-1", "nan", "1e9", "Wed, 21 Oct 2099 07:28:00 GMT", ""])
def test_strange_retry_after_is_ignored(server: Server, raw: Path, wait: str) -> None:
    script(server, status(503, {"Retry-After": wait}))
    assert get(archive(server), raw).source.official


def test_redirects_are_followed_but_bounded(server: Server, raw: Path) -> None:
    script(server, status(302, {"Location": f"/demo/{NAME}"}))
    assert get(archive(f"{server.address}/moved"), raw).source.official
    loop = status(302, {"Location": "/loop"})
    script(server, *[loop] * 50)
    server.requests.clear()
    with pytest.raises(DataError, match="more than 5 redirects"):
        get(archive(f"{server.address}/loop"), raw / "2")
    assert len(server.requests) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http://127.0.0.1:99999/"])
def test_redirect_to_something_else_is_refused(server: Server, raw: Path, target: str) -> None:
    script(server, *[status(302, {"Location": target})] * 9)
    with pytest.raises(DataError, match="tried"):
        get(archive(server), raw)


def test_trickle_is_given_up(server: Server, raw: Path) -> None:
    def trickle(handler: RangeHandler) -> None:
        handler.respond(200, b"", length=len(CONTENT))
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.02)

    script(server, *[trickle] * 20)
    started = time.monotonic()
    with pytest.raises(DataError, match="slower than"):
        get(archive(server), raw, limits=attrs.evolve(QUICK, rounds=1, stuck=2))
    assert time.monotonic() - started < 3


ENDLESS = {
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=", b"a"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: a\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_lively_and_brings_nothing_is_given_up(server: Server, raw: Path, what: str) -> None:
    begin, again = ENDLESS[what]

    def endless(handler: RangeHandler) -> None:
        handler.wfile.write(begin)
        while True:  # until the other side hangs up
            handler.wfile.write(again)
            handler.wfile.flush()
            time.sleep(0.05)

    script(server, endless, endless)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"(no answer|nothing arrived) in time"):
        get(archive(server), raw, limits=attrs.evolve(QUICK, rounds=1, stuck=2, idle=0.5))
    assert time.monotonic() - started < 5
    assert get(archive(server), raw).path.read_bytes() == CONTENT


def test_a_connection_that_brings_something_is_not_shut(server: Server, raw: Path) -> None:
    """The patience is for one wait, not for the whole transfer."""

    def slow(handler: RangeHandler) -> None:
        handler.respond(200, b"", {"ETag": handler.etag(CONTENT)}, length=len(CONTENT))
        for start in range(0, len(CONTENT), len(CONTENT) // 12):
            time.sleep(0.1)
            handler.wfile.write(CONTENT[start : start + len(CONTENT) // 12])

    script(server, slow)
    limits = attrs.evolve(QUICK, idle=0.6)
    assert get(archive(server), raw, limits=limits).path.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_wrong_bytes_are_refused_with_both_checksums(server: Server, raw: Path) -> None:
    expected = archive(server, content=CONTENT[::-1])
    with pytest.raises(DataError) as caught:
        get(expected, raw)
    message = str(caught.value)
    assert expected.md5 in message
    assert hashlib.md5(CONTENT).hexdigest() in message
    assert "\n" not in message
    assert "allow_unofficial" in message
    assert len(server.requests) == 1  # asking again would bring the same
    assert not (raw / "demo" / NAME).exists()
    assert leftovers(raw) == []


def test_wrong_bytes_can_be_allowed_from_a_mirror_and_are_marked(server: Server, raw: Path) -> None:
    result = get(archive(content=b"another"), raw, allow_unofficial=True, mirror=server.address)
    assert not result.source.official
    assert result.source.md5 == hashlib.md5(CONTENT).hexdigest()


def test_wrong_bytes_from_an_official_address_are_refused_even_where_unofficial_copies_are_allowed(
    server: Server, raw: Path
) -> None:
    with pytest.raises(DataError, match=hashlib.md5(CONTENT).hexdigest()):
        get(archive(server, content=b"another"), raw, allow_unofficial=True)
    assert not (raw / "demo" / NAME).exists()
    assert leftovers(raw) == []


def test_unofficial_leftover_is_never_taken_for_official(server: Server, raw: Path) -> None:
    path = raw / "demo" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"unofficial")
    nowhere = archive()
    assert not get(nowhere, raw, allow_unofficial=True).source.official
    with pytest.raises(DataError, match=hashlib.md5(b"unofficial").hexdigest()):
        get(nowhere, raw)
    assert path.read_bytes() == b"unofficial"
    assert get(archive(server), raw).source.official
    assert path.read_bytes() == CONTENT


def test_absurdly_large_answer_is_not_downloaded(server: Server, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.datasets.transfer.ceiling", lambda _archive: 1000)
    with pytest.raises(DataError, match="far more than"):
        get(archive(server), raw)

    def endless(handler: RangeHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)
        handler.close_connection = True

    script(server, endless)
    with pytest.raises(DataError, match="sends more than"):
        get(archive(server), raw)


def test_a_mirror_that_is_not_there_is_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"there is no folder {tmp_path / 'nothing'}"):
        get(archive("http://127.0.0.1:9/dead"), raw, mirror=str(tmp_path / "nothing"))


def test_every_place_and_the_way_out_are_named(server: Server, raw: Path, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/dead"  # the discard port: nothing listens there
    with pytest.raises(DataError) as caught:
        get(archive(f"{server.address}/absent", dead), raw, mirror=str(tmp_path))
    message = str(caught.value)
    for part in ("demo/archive.bin: no such file", "absent: HTTP 404", "refused", "REPLICATION_DATA_MIRROR"):
        assert part in message
    assert "\n" not in message


def test_passwords_do_not_reach_messages(server: Server, raw: Path) -> None:
    address = server.address.replace("http://", "http://user:secret@")
    with pytest.raises(DataError) as caught:
        get(archive(f"{address}/absent?token=hidden"), raw)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "file address", "http address"])
def test_mirror_is_tried_first(server: Server, raw: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = {
        "folder": str(server.folder),
        "file address": server.folder.as_uri(),
        "http address": f"{server.address}/",
    }[form]
    monkeypatch.setenv(download_module.MIRROR_VARIABLE, mirror)
    assert get(archive("http://127.0.0.1:9/dead"), raw).path.read_bytes() == CONTENT
    assert leftovers(raw) == []


def test_unofficial_mirror_copy_gives_way_to_the_official_one(server: Server, raw: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mirror" / "demo" / NAME
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"unofficial")
    assert get(archive(server), raw, mirror=str(tmp_path / "mirror")).source.official
    allowed = get(archive(server), raw / "2", allow_unofficial=True, mirror=str(tmp_path / "mirror"))
    assert not allowed.source.official


def test_unknown_mirror_scheme_is_named(raw: Path) -> None:
    with pytest.raises(DataError, match="not ftp://"):
        get(archive(), raw, mirror="ftp://host/data")


@pytest.mark.parametrize("form", ["http", "folder"])
def test_full_disk_is_one_line(server: Server, raw: Path, form: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # the cheapest way to make a write fail half-way
    try:
        with pytest.raises(ReplicationError, match=f"cannot write .*{NAME}.*file-size limit") as caught:
            get(archive(server), raw, mirror=str(server.folder) if form == "folder" else "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert get(archive(server), raw).source.official  # what was left does not stand in the way


def test_folder_in_place_of_the_archive(raw: Path) -> None:
    (raw / "demo" / NAME).mkdir(parents=True)
    with pytest.raises(DataError, match="is no file"):
        get(archive(), raw)


def test_damaged_notes_beside_a_part_start_over(server: Server, raw: Path) -> None:
    (raw / "demo").mkdir(parents=True)
    (raw / "demo" / f"{NAME}.part").write_bytes(b"junk")
    for notes in ("", "[]", "{}", '{"address": 1, "validator": "x\\r\\nHost: y"}'):
        (raw / "demo" / f"{NAME}.part.json").write_text(notes)
        server.requests.clear()
        (raw / "demo" / NAME).unlink(missing_ok=True)
        assert get(archive(server), raw).source.official
        assert ranges(server) == [None]


def test_md5_of_what_is_renamed(server: Server, raw: Path) -> None:
    result = get(archive(server), raw)
    assert files.md5(result.path) == result.source.md5


def test_official_checksums_are_those_of_torchvision() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    assert CIFAR10.archives[0].md5 == datasets.CIFAR10.tgz_md5
    assert CIFAR10.archives[0].urls[-1] == datasets.CIFAR10.url
    assert {archive.name: archive.md5 for archive in MNIST.archives} == dict(datasets.MNIST.resources)
    for url, name, md5 in datasets.SVHN.split_list.values():
        assert (SVHN.archive(name).urls, SVHN.archive(name).md5) == ((url,), md5)
