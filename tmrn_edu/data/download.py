"""Data sets that can be had by a direct link: downloaded, compared, unpacked. A download that broke off is continued.

    done = get("davis2017", "data")     # data/DAVIS-2017/DAVIS/JPEGImages/...
    sets = find_sets("data")

pooch (the extra `download`) compares checksums and moves a file to its name only when it is right; the downloader that
it is given here adds what it lacks: bytes go to NAME.part, and the next call asks the server for the rest. Where nobody
published a checksum, size and the zip's own check sums are compared, and the sha256 is told so that it can be noted.
Licences are the publishers': DAVIS is CC BY-NC 4.0, DUTS and ECSSD are free for research. All code is ours.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from tmrn_edu.data.files import reason
from tmrn_edu.errors import InputError

BLOCK = 1 << 16  # bytes at a time; where a connection breaks, those of an unfinished block are lost
PATIENCE = (20, 60)  # seconds to wait for a connection, and for the next bytes


@dataclass(frozen=True)
class Archive:
    """One zip of a data set."""

    url: str
    file: str  # its name here
    folder: str  # where it is unpacked, below the folder given
    size: int | None = None  # bytes
    sha256: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What `get` left behind."""

    name: str
    folder: Path  # what `find_sets` wants
    archives: tuple[Path, ...]  # no longer needed
    notes: tuple[str, ...]  # what could not be compared

    def text(self) -> str:
        """The result as it is printed."""
        kept = ", ".join(map(str, self.archives))
        return "\n".join([*self.notes, f"{self.name} is in {self.folder}; {kept} may be deleted"])


# Sizes and checksums: DAVIS 2017 from tensorflow/datasets:tensorflow_datasets/video/davis/checksums.tsv; ECSSD and DUTS-TR as others noted
# them after a download; none was found for DUTS-TE, and several that disagree for DAVIS 2016.
DUTS, ECSSD = (
    "https://saliencydetection.net/duts/download",
    "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/data/ECSSD",
)
DATA_SETS = {
    "davis2017": (
        Archive(
            "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",
            "DAVIS-2017-trainval-480p.zip",
            "DAVIS-2017",
            832766765,
            "e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
        ),
    ),
    "davis2016": (
        Archive("https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip", "DAVIS-2016-data.zip", "DAVIS-2016"),
    ),
    "duts": (
        Archive(
            f"{DUTS}/DUTS-TR.zip",
            "DUTS-TR.zip",
            "DUTS",
            270997309,
            "ce61e023c8f59d022b4d46981cf16813b83d089242e6489a45630d83962ea058",
        ),
        Archive(f"{DUTS}/DUTS-TE.zip", "DUTS-TE.zip", "DUTS"),
    ),
    "ecssd": (
        Archive(
            f"{ECSSD}/images.zip",
            "ECSSD-images.zip",
            "ECSSD",
            67766979,
            "7d5dce1a21c6d82e2f9617c00ad7eae2de5ded9320e8c59a01b4c731d210ea47",
        ),
        Archive(
            f"{ECSSD}/ground_truth_mask.zip",
            "ECSSD-ground_truth_mask.zip",
            "ECSSD",
            1571109,
            "dc0a9f11f2adee2737d95b28f9567a0a5de33f78743447c097ceb4d42f281a31",
        ),
    ),
}

# Behind a form, or on a drive that does not let programs in: the page to go to.
BY_HAND = {
    "youtube-vos": "https://youtube-vos.org/dataset/vos/ (after signing in)",
    "static": "https://github.com/hkchengrex/XMem/blob/main/docs/GETTING_STARTED.md (one zip on Google Drive: FSS-1000, DUTS, ECSSD, BIG, HRSOD)",
    "fss": "https://github.com/HKUSTCV/FSS-1000 (Google Drive)",
    "hrsod": "https://github.com/yi94code/HRSOD (Google Drive)",
    "big": "https://github.com/hkchengrex/CascadePSP/blob/main/docs/dataset.md (Google Drive)",
    "bl30k": "https://github.com/hkchengrex/MiVOS#bl30k (Google Drive, 700 GB)",
}


def get(name: str, out: str | Path = "data", progress: bool = False) -> Fetched:
    """Downloads a data set into the folder `out` and unpacks it there; what is there already is kept.

    name: "davis2017", "davis2016", "duts" or "ecssd". A call that was interrupted, at whatever point, is continued by the next one.
    progress: a bar of bytes.

    Raises InputError for a name that is not known or that has to be fetched by hand (naming the page), where pooch is not installed, where
    the server cannot be reached or breaks off (how many bytes are kept), and for a file that is not the one expected. Nothing half
    written gets the final name.
    """
    if name in BY_HAND:
        raise InputError(
            f"{name} has no direct link: fetch it yourself from {BY_HAND[name]}, unpack it and name its folder"
        )
    if name not in DATA_SETS:
        raise InputError(f"data set {name!r} is not known; known are {', '.join([*DATA_SETS, *BY_HAND])}")
    out, notes, paths = Path(out), [], []
    for archive in DATA_SETS[name]:
        path, note = fetch(archive, out, progress)
        unpack(path, out / archive.folder)
        paths.append(path)
        notes += [note] if note else []
    return Fetched(name, out / DATA_SETS[name][0].folder, tuple(paths), tuple(notes))


def fetch(archive: Archive, out: Path, progress: bool = False) -> tuple[Path, str]:
    """Downloads one zip, unless it is there; returns its path and a note on what could not be compared. Raises as `get` does."""
    try:
        import pooch  # only those who download need it
    except ImportError:
        raise InputError(
            f"downloading needs pooch (pip install pooch); or fetch {archive.url} yourself and unpack it"
        ) from None
    part = out / f"{archive.file}.part"
    loud = pooch.get_logger().level
    pooch.get_logger().setLevel("WARNING")  # its advice to note a hash is for programmers
    try:
        path = pooch.retrieve(
            archive.url,
            known_hash=archive.sha256 and f"sha256:{archive.sha256}",
            fname=archive.file,
            path=out,
            downloader=Continued(part, archive, progress),
        )
        note = ""
        if not archive.sha256:
            note = f"{path}: no published checksum is known; size and contents agree, sha256 {pooch.file_hash(path)}"
        return Path(path), note
    except InputError:
        raise
    except OSError as error:  # of the disk, or of requests, whose errors are OSErrors
        kept = f"; {part.stat().st_size:,} bytes are kept in {part}, call again to continue" if part.exists() else ""
        raise InputError(f"{archive.url} could not be fetched: {reason(error)}{kept}") from None
    except ValueError as error:  # pooch's word for a wrong checksum; it has deleted the file
        raise InputError(f"{archive.url} is not the file expected, and was deleted: {reason(error)}") from None
    finally:
        pooch.get_logger().setLevel(loud)


class Continued:
    """A downloader for pooch: goes on where NAME.part ends, if the server can (HTTP Range), else from the start.

    A file without checksum is compared with the size that the server states, and read through as a zip. Raises InputError where that
    disagrees or the connection breaks, OSError where there is none.
    """

    def __init__(self, part: Path, archive: Archive, progress: bool):
        self.part, self.archive, self.progress = part, archive, progress

    def __call__(self, url: str, output_file: str | os.PathLike, pooch: object) -> None:
        total = self._download(url)
        have = self.part.stat().st_size
        if total is not None and have < total:
            raise InputError(
                f"{url} broke off after {have:,} of {total:,} bytes; they are kept in {self.part}, call again to continue"
            )
        if self.archive.sha256 is None:
            self._read_through(total)
        os.replace(self.part, output_file)

    def _download(self, url):
        """Appends to the part what is missing; returns the size of the whole file, None where the server does not say."""
        import requests  # pooch brings it along

        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # bytes as they are: a compressed answer cannot be continued
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as response:
            stated = response.headers.get("Content-Range", "").rpartition("/")[2]
            if (
                response.status_code == 416 and have
            ):  # nothing behind the end of the part: it is whole, or of something else
                if stated == str(have):
                    return have
                self.part.unlink()
                return self._download(url)
            response.raise_for_status()
            continued = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not continued:
                have, stated = 0, response.headers.get("Content-Length", "")
            total = int(stated) if stated.isdecimal() else None
            if self.archive.size is not None and total not in (None, self.archive.size):
                self.part.unlink(missing_ok=True)
                raise InputError(
                    f"{url} has {total:,} bytes, expected {self.archive.size:,}: the file has been changed"
                )
            try:
                self._append(response, "ab" if continued else "wb", have, total)
            except requests.RequestException:
                if total is None:
                    raise
        return total

    def _append(self, response, mode, have, total):
        with (
            open(self.part, mode) as file,
            tqdm(
                total=total,
                initial=have,
                desc=self.archive.file,
                unit="B",
                unit_scale=True,
                disable=not self.progress,
            ) as bar,
        ):
            for block in response.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))

    def _read_through(self, total):
        try:
            with zipfile.ZipFile(self.part) as archive:
                damaged = archive.testzip()
        except zipfile.BadZipFile as error:
            damaged = reason(error)
        have = self.part.stat().st_size
        if damaged is None and total not in (None, have):
            damaged = f"expected {total:,} bytes"
        if damaged is not None:
            self.part.unlink()
            raise InputError(f"{self.archive.url} sent {have:,} bytes that are no whole zip, deleted: {damaged}")


def unpack(path: Path, folder: Path) -> list[Path]:
    """Unpacks a zip into a folder; members that are there whole are kept, half-written ones are written again.

    Returns the files that were written. Raises InputError for a damaged zip and for a folder that cannot be written.
    """
    written = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                target = folder / member.filename
                if member.is_dir() or (target.is_file() and target.stat().st_size == member.file_size):
                    continue
                written.append(Path(archive.extract(member, folder)))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot unpack {path} into {folder}: {reason(error)}") from error
    return written
