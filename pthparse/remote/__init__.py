"""Files that are far away: a URL to a source that is read by ranges.

`http.py` asks servers itself and believes none of their answers unchecked; `filesystem.py` is every other protocol of
fsspec; `cache.py` keeps what was fetched and puts neighbours into one request; `directory.py` has the files of a model.
"""

from __future__ import annotations

from typing import Any

from ..errors import PthError, UnsupportedError, escape
from .cache import RemoteSource, Room, Wire

EXTRA = "pip install 'pthparse[remote]'"
# What fsspec needs beside itself; it names the packages of other protocols itself.
PACKAGES = {
    "abfs": "adlfs", "az": "adlfs", "gcs": "gcsfs", "gs": "gcsfs", "hf": "huggingface_hub", "oss": "ossfs",
    "s3": "s3fs", "s3a": "s3fs", "sftp": "paramiko", "smb": "smbprotocol", "ssh": "paramiko",
}  # fmt: skip


def open_url(url: str, room: Room | None = None) -> RemoteSource:
    """Opens what a URL names. room: what it keeps together with others.

    Raises
    ------
    UnsupportedError
        A package is missing, or who keeps the file does not hand out parts of it.
    OSError
        It is not there, not allowed, or not to be reached.
    """
    own = "memory" in url.partition("://")[0].lower().split("::")  # of this process alone
    return RemoteSource(_wire(url), shown(url), room, None if own else url)


def is_web(url: str) -> bool:
    """Is it a web server that is asked, at last?"""
    return url.partition("://")[0].lower().split("::")[-1] in ("http", "https")


def filesystem_of(url: str) -> tuple[Any, str]:
    """fsspec's filesystem of a URL, and its name there."""
    scheme, path = url.partition("://")[0].lower(), shown(url)
    try:
        import fsspec
    except ImportError:
        raise UnsupportedError("remote-extra", f"{scheme}:// needs fsspec: {EXTRA}", path=path) from None
    how, web = {}, scheme in ("http", "https")
    if web:  # proxies of the environment, unless fsspec's configuration says otherwise
        how["client_kwargs"] = {"trust_env": True, **fsspec.config.conf.get(scheme, {}).get("client_kwargs", {})}
    try:
        fs, name = fsspec.core.url_to_fs(url, **how)
    except ImportError as e:
        package = PACKAGES.get(scheme)
        if web:
            text = f"{scheme}:// needs aiohttp: {EXTRA}"
        elif package is not None:
            text = f"{scheme}:// needs {package}: pip install {package}"
        else:
            text = f"{scheme}:// needs a package: {escape(str(e))[:200]}"
        raise UnsupportedError("remote-extra", text, path=path) from None
    except (OSError, PthError):
        raise
    except Exception as e:  # whatever a protocol's package says to its URL
        raise UnsupportedError(
            "url", f"it cannot be opened: {escape(str(e) or type(e).__name__)[:200]}", path=path
        ) from e
    return fs, name


def _wire(url: str) -> Wire:
    fs, name = filesystem_of(url)
    if url.partition("://")[0].lower() in ("http", "https"):
        from .http import HttpWire

        return HttpWire(fs, url, shown(url))
    from .filesystem import FilesystemWire

    return FilesystemWire(fs, name, shown(url))


def shown(url: str) -> str:
    """The URL as messages and reports show it: without password, and without the signature that its query may be."""
    scheme, _, rest = url.partition("://")
    web = scheme.lower() in ("http", "https")
    rest, mark, _ = (rest.partition("#")[0] if web else rest).partition("?") if web else (rest, "", "")
    place, slash, below = rest.partition("/")
    user, at, host = place.rpartition("@")
    if at and (web or ":" in user):
        place = host
    return f"{scheme}://{place}{slash}{below}{'?...' if mark else ''}"
