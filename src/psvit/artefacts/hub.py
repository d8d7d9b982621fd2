"""Folders of psvit's on the Hugging Face Hub: the one file that imports huggingface_hub.

A repository is named ``hub:user/name``, or ``hub:user/name@revision`` for a branch, tag or commit.
HF_ENDPOINT names another server, HF_TOKEN who asks; HF_HUB_OFFLINE keeps to what is cached.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from psvit.artefacts.card import PLACEHOLDER
from psvit.artefacts.folder import CARD, OWN_FILES, is_artefact
from psvit.errors import MissingExtra, ModelError, OutputError

HUB = "hub:"


def push_to_hub(
    out: str | Path, repository: str, *, private: bool = False, message: str | None = None
) -> str:
    """Upload the folder `out` to `repository` ("user/name"), made if need be; returns its address.

    Only files that psvit wrote are sent, in one commit; what else the repository holds stays.

    Raises OutputError for a folder that psvit did not write and if the Hub refuses, MissingExtra
    without huggingface_hub.
    """
    hub, folder = _library(), Path(out)
    if not is_artefact(folder):
        raise OutputError(f"{out} is not a folder that psvit wrote: save a result to it first")
    repository = repository.removeprefix(HUB)
    try:
        api = hub.HfApi(endpoint=_endpoint(), library_name="psvit")
        if not api.repo_exists(repository):  # a token may be allowed to write, but not to create
            api.create_repo(repository, private=private)
        api.create_commit(
            repository,
            [
                hub.CommitOperationAdd(name, _content(folder / name, repository))
                for name in sorted(OWN_FILES)
                if (folder / name).is_file()
            ],
            commit_message=message or "Pruned with psvit",
        )
    except Exception as error:  # its HTTP library's errors and the Hub's own
        raise OutputError(f"cannot push {out} to {repository}: {_said(error)}") from error
    return f"{api.endpoint}/{repository}"


def local_folder(out: str | Path) -> Path:
    """The folder itself, or where the files of ``hub:user/name`` lie once they are downloaded.

    Only files that psvit writes are fetched, and none of them is code.

    Raises ModelError for a repository that cannot be had, MissingExtra without huggingface_hub.
    """
    if not is_on_hub(out):
        return Path(out)
    repository, _, revision = str(out).removeprefix(HUB).partition("@")
    hub = _library()
    try:
        place = hub.snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=sorted(OWN_FILES),
            endpoint=_endpoint(),
            library_name="psvit",
        )
    except Exception as error:
        raise ModelError(f"cannot get {out}: {_said(error)}") from error
    return Path(place)


def is_on_hub(out: str | Path) -> bool:
    """Whether this names a repository of the Hub."""
    return str(out).startswith(HUB)


def _library() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra(
            f"the Hub needs huggingface_hub, which did not import ({error}): "
            "install it with `pip install 'psvit[hub]'`"
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    """Asked at every call, where huggingface_hub asks once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _content(path: Path, repository: str) -> str | bytes:
    """A file to upload; in the card, the name that it can be loaded by."""
    if path.name != CARD:
        return str(path)
    return path.read_text(encoding="utf-8").replace(PLACEHOLDER, repository).encode()


def _said(error: Exception) -> str:
    """One line: what went wrong, and what to do about it."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 200 else text[:197] + "..."
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or kind == "LocalTokenNotFoundError":
        return f"access denied ({text}): log in with `hf auth login`, or set HF_TOKEN"
    if kind == "RevisionNotFoundError":
        return f"it has no such revision ({text}): give a branch, tag or commit after @"
    if kind == "RepositoryNotFoundError" or status == 404:
        return f"there is no such repository, or it is private ({text}): check user/name, log in"
    if kind == "HFValidationError":
        return f"this is no name of a repository ({text}): expected user/name"
    return f"{kind}: {text}; check the network, HF_ENDPOINT and HF_TOKEN"
