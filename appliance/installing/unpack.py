"""Takes a release's .tar.gz apart: plain files and folders below one folder, nothing else, and not too much."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from appliance.errors import InstallError
from appliance.installing import codes

_MOST_BYTES = 200 * 2**20
_MOST_FILES = 20_000


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a release.

    Args:
        archive: A ``.tar.gz`` with the release's folders, at its top or below one folder.
        folder: Made here; must not exist.

    Returns:
        The folder that the release's own folders lie in.

    Raises:
        InstallError: It isn't such an archive; ``folder`` is gone again. Exit code 65.
        OSError: The disk refused.
    """
    folder.mkdir(mode=0o700)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract(tar, folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(folder)
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError) and error.errno is not None:
            raise
        raise _untrusted(f"{archive} can't be read as a .tar.gz ({error})") from error
    except InstallError:
        shutil.rmtree(folder)
        raise
    tops = [path for path in folder.iterdir() if path.is_dir()]
    return tops[0] if len(tops) == 1 and not (folder / "appliance").is_dir() else folder


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    files = size_bytes = 0
    for member in tar:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
            raise _untrusted(f"The archive holds {member.name!r}, which leads out of it")
        if not (member.isfile() or member.isdir()):
            raise _untrusted(f"The archive holds {member.name!r}, which is neither a file nor a folder")
        files, size_bytes = files + 1, size_bytes + member.size
        if files > _MOST_FILES or size_bytes > _MOST_BYTES:
            raise _untrusted("The archive is far larger than a release of Sitecam")
        target = folder / name
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        if content is None:
            raise _untrusted(f"The archive's {member.name!r} has no content")
        with target.open("xb") as file:
            shutil.copyfileobj(content, file)


def _untrusted(what: str) -> InstallError:
    return codes.failure(
        codes.BAD_ARCHIVE, what, means="Nothing of it was used", do="Get the release again from where you trust it"
    )
